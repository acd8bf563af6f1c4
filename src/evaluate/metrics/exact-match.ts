import { encodePrompts, generateAll, type Prompt, promptRoom } from "../../generate/index.ts";
import { requireTokenizer } from "../encode.ts";
import type { PreparedTask } from "../few-shot.ts";
import type { Measurement } from "../result.ts";
import type { AnswerFormat, AnswerTask } from "../task.ts";
import { cutNote, type MeasureContext } from "./context.ts";

/** Share of items whose greedily generated answer equals one of the right ones after {@link normaliseAnswer}. */
export async function measureAnswers(
  prepared: PreparedTask<AnswerTask>,
  context: MeasureContext,
): Promise<Measurement[]> {
  const { task, items, preamble } = prepared;
  const { model, backend, precision, signal } = context;
  const tokenizer = requireTokenizer(model);
  const maxTokens = task.maxTokens ?? 64;
  const room = promptRoom(model, maxTokens);
  const encoded = await encodePrompts(
    tokenizer,
    items.map((item) => preamble + item.prompt),
  );
  const cut = encoded.filter((ids) => ids.length > room).length;
  const prompts: Prompt[] = encoded.map((ids) => ids.slice(-room));
  const outputs: string[] = [];
  for (let at = 0; at < prompts.length; at += context.batchSize) {
    signal?.throwIfAborted();
    const greedy = { temperature: 0, repetitionPenalty: 1 };
    const options = { ...greedy, maxTokens, stop: task.stop ?? ["\n"], backend, precision, signal };
    const results = await generateAll(model, prompts.slice(at, at + context.batchSize), options);
    signal?.throwIfAborted();
    outputs.push(...results.map(({ text }) => text));
    context.onProgress?.(outputs.length, prompts.length);
  }
  return [
    {
      metric: "exact-match",
      better: "higher",
      items: items.map(({ id, cluster, answers }, i) => {
        const output = normaliseAnswer(outputs[i] as string, task);
        const isRight = answers.some((answer) => normaliseAnswer(answer, task) === output);
        return { id, cluster, amount: isRight ? 1 : 0, weight: 1 };
      }),
      notes: cutNote(cut, prompts.length),
    },
  ];
}

/** What is compared: the extracted part, without case or punctuation where asked, white space runs as one space. */
export function normaliseAnswer(text: string, format: AnswerFormat): string {
  let answer = text;
  if (format.extract !== undefined) {
    const match = [...answer.matchAll(new RegExp(format.extract, "gu"))].at(-1);
    if (match !== undefined) answer = match[1] ?? match[0];
  }
  if (format.ignoreCase === true) answer = answer.toLowerCase();
  if (format.ignorePunctuation === true) answer = answer.replaceAll(/[\p{P}\p{S}]/gu, "");
  return answer.replaceAll(/\s+/g, " ").trim();
}
