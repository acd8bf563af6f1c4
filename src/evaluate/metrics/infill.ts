import { infillingTokens } from "../../data/index.ts";
import {
  encodePrompts,
  generateAll,
  type InfillingOrder,
  ignoreTarget,
  infillingPrompt,
  promptRoom,
  scoreSequences,
} from "../../generate/index.ts";
import { requireTokenizer } from "../encode.ts";
import type { PreparedTask } from "../few-shot.ts";
import type { Measurement } from "../result.ts";
import type { InfillTask } from "../task.ts";
import { sum } from "./completion.ts";
import type { MeasureContext } from "./context.ts";

/** Tokens that may be generated beyond those of the longest answer: longer ones are wrong anyway. */
const spareTokens = 8;

/**
 * `exact-match`: share of gaps that are filled with exactly what was there, but for white space around it, greedily; an
 * answer of one line ends with the line, and that of a task with `extract` is the first match of it. `bits-per-byte`: of
 * what was there. Both from both sides, where the tokenizer has the tokens for it, in the order PSM and as `...-spm` in the
 * order SPM, and as `...-left` from what is before the gap alone, as any model can.
 */
export async function measureInfilling(
  { task, items }: PreparedTask<InfillTask>,
  context: MeasureContext,
): Promise<Measurement[]> {
  const { model } = context;
  const tokenizer = requireTokenizer(model);
  const middles = await tokenizer.encodeBatch(
    items.map(({ middle }) => middle),
    { literal: true },
  );
  const maxTokens = spareTokens + middles.reduce((most, { length }) => Math.max(most, length), 0);
  const room = promptRoom(model, maxTokens);
  const fromLeft = async () =>
    (
      await encodePrompts(
        tokenizer,
        items.map(({ prefix }) => prefix),
      )
    ).map((ids) => ids.slice(-room));
  const fromBoth = (order: InfillingOrder) => () =>
    Promise.all(items.map((item) => infillingPrompt(model, item, { maxTokens, order })));
  const hasTokens = infillingTokens(tokenizer) !== undefined;
  const ways = hasTokens
    ? ([["", fromBoth("psm")] as const, ["-spm", fromBoth("spm")] as const, ["-left", fromLeft] as const] as const)
    : [["-left", fromLeft] as const];
  const notes = hasTokens ? [] : ["the tokenizer has no tokens for filling in: only what is before a gap was used"];
  const measurements: Measurement[] = [];
  for (const [way, [name, makePrompts]] of ways.entries()) {
    const onProgress = (done: number) => context.onProgress?.(way * items.length + done, ways.length * items.length);
    const prompts = await makePrompts();
    const outputs = await answers(task, prompts, maxTokens, { ...context, onProgress });
    measurements.push({
      metric: `exact-match${name}`,
      better: "higher",
      items: items.map(({ id, cluster, middle }, i) => {
        const isRight = outputs[i]?.trim() === middle.trim();
        return { id, cluster, amount: isRight ? 1 : 0, weight: 1 };
      }),
      notes,
    });
    const scores = await score(prompts, middles, context);
    measurements.push({
      metric: `bits-per-byte${name}`,
      better: "lower",
      items: items.map(({ id, cluster }, i) => {
        const logprobs = scores[i]?.logprobs ?? [];
        // a middle that the context has no room for is scored as far as it fits
        const scored = (middles[i] as Int32Array).subarray(0, logprobs.length);
        const weight = sum(scored.map((token) => tokenizer.tokenBytes[token] as number));
        return { id, cluster, amount: -sum(logprobs) / Math.LN2, weight };
      }),
    });
  }
  return measurements;
}

/** Log-probabilities of the tokens of each middle after its prompt. */
function score(prompts: readonly Int32Array[], middles: readonly Int32Array[], context: MeasureContext) {
  const requests = prompts.map((prompt, i) => {
    const whole = Int32Array.from([...prompt, ...(middles[i] as Int32Array)]).slice(
      0,
      context.model.config.contextLength + 1,
    );
    const targets = whole.slice(1).fill(ignoreTarget, 0, prompt.length - 1);
    return { tokens: whole.slice(0, -1), targets };
  });
  return scoreSequences(context.model, requests, context);
}

async function answers(
  { items, extract }: InfillTask,
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
    outputs.push(...results.map(({ text }) => (extract === undefined ? text : (extract.exec(text)?.[0] ?? ""))));
    onProgress?.(outputs.length, prompts.length);
  }
  return outputs;
}
