import { scoreSequences } from "../../generate/index.ts";
import { encodePairs } from "../encode.ts";
import { joinAnswer, type PreparedTask } from "../few-shot.ts";
import type { Measurement } from "../result.ts";
import type { CompletionTask } from "../task.ts";
import { cutNote, type MeasureContext } from "./context.ts";

/** Bits per byte of the completions given their prompts. */
export async function measureCompletions(
  prepared: PreparedTask<CompletionTask>,
  context: MeasureContext,
): Promise<Measurement[]> {
  const { task, items, preamble } = prepared;
  const answers = items.map((item) => joinAnswer(item.prompt, item.completion, task));
  const pairs = await encodePairs(
    context.model,
    items.map(({ id, prompt }, i) => ({
      context: preamble + prompt,
      continuation: answers[i] as string,
      where: `task ${task.name}, item ${id}`,
    })),
  );
  const scores = await scoreSequences(
    context.model,
    pairs.map(({ request }) => request),
    context,
  );
  return [
    {
      metric: "bits-per-byte",
      better: "lower",
      items: items.map(({ id, cluster }, i) => ({
        id,
        cluster,
        amount: -sum(scores[i]?.logprobs ?? []) / Math.LN2,
        weight: Buffer.byteLength(answers[i] as string),
      })),
      notes: cutNote(pairs.filter(({ isCut }) => isCut).length, pairs.length),
    },
  ];
}

export function sum(values: Iterable<number>): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
