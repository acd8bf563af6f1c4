import { infillingTokens, type Tokenizer } from "../../data/index.ts";
import { encodePrompts, generateAll, infillingPrompt, promptRoom } from "../../generate/index.ts";
import { requireTokenizer } from "../encode.ts";
import type { PreparedTask } from "../few-shot.ts";
import type { Measurement } from "../result.ts";
import type { InfillTask } from "../task.ts";
import type { MeasureContext } from "./context.ts";

/** Tokens that may be generated beyond those of the longest answer: longer ones are wrong anyway. */
const spareTokens = 8;

/**
 * Share of gaps that are filled with exactly what was there, but for white space around it, greedily. `exact-match` from
 * both sides, where the tokenizer has the tokens for it; `exact-match-left` from what is before the gap alone, as any
 * model can. An answer of one line ends with the line.
 */
export async function measureInfilling(
  { task, items }: PreparedTask<InfillTask>,
  context: MeasureContext,
): Promise<Measurement[]> {
  const { model } = context;
  const tokenizer = requireTokenizer(model);
  const longest = await longestAnswer(
    tokenizer,
    items.map(({ middle }) => middle),
  );
  const maxTokens = longest + spareTokens;
  const room = promptRoom(model, maxTokens);
  const fromLeft = async () =>
    (
      await encodePrompts(
        tokenizer,
        items.map(({ prefix }) => prefix),
      )
    ).map((ids) => ids.slice(-room));
  const fromBoth = () => Promise.all(items.map((item) => infillingPrompt(model, item, maxTokens)));
  const ways =
    infillingTokens(tokenizer) === undefined
      ? ([["exact-match-left", fromLeft]] as const)
      : ([
          ["exact-match", fromBoth],
          ["exact-match-left", fromLeft],
        ] as const);
  const measurements: Measurement[] = [];
  for (const [way, [metric, prompts]] of ways.entries()) {
    const onProgress = (done: number) => context.onProgress?.(way * items.length + done, ways.length * items.length);
    const outputs = await answers(task, await prompts(), maxTokens, { ...context, onProgress });
    measurements.push({
      metric,
      better: "higher",
      items: items.map(({ id, cluster, middle }, i) => {
        const isRight = outputs[i]?.trim() === middle.trim();
        return { id, cluster, amount: isRight ? 1 : 0, weight: 1 };
      }),
      notes:
        ways.length === 2 ? [] : ["the tokenizer has no tokens for filling in: only what is before a gap was used"],
    });
  }
  return measurements;
}

async function answers(
  { items }: InfillTask,
  prompts: readonly Int32Array[],
  maxTokens: number,
  { model, batchSize, backend, precision, signal, onProgress }: MeasureContext,
): Promise<string[]> {
  const outputs: string[] = [];
  for (let at = 0; at < prompts.length; at += batchSize) {
    signal?.throwIfAborted();
    const requests = prompts.slice(at, at + batchSize).map((prompt, i) => {
      const isLine = items[at + i]?.middle.includes("\n") === false;
      return { prompt, stop: isLine ? ["\n"] : [] };
    });
    const options = { temperature: 0, repetitionPenalty: 1, maxTokens, backend, precision, signal };
    const results = await generateAll(model, requests, options);
    signal?.throwIfAborted();
    outputs.push(...results.map(({ text }) => text));
    onProgress?.(outputs.length, prompts.length);
  }
  return outputs;
}

async function longestAnswer(tokenizer: Tokenizer, middles: readonly string[]): Promise<number> {
  const encoded = await tokenizer.encodeBatch(middles, { literal: true });
  return encoded.reduce((most, ids) => Math.max(most, ids.length), 1);
}
