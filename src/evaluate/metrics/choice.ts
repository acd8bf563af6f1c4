import { scoreSequences } from "../../generate/index.ts";
import { encodePairs } from "../encode.ts";
import { joinAnswer, type PreparedTask } from "../few-shot.ts";
import type { Measurement } from "../result.ts";
import type { ChoiceTask } from "../task.ts";
import { sum } from "./completion.ts";
import { cutNote, type MeasureContext } from "./context.ts";

/**
 * Multiple choice by log-likelihood: `accuracy` picks the choice of the highest summed log-probability (acc in
 * lm-evaluation-harness), `accuracy-norm` the highest per UTF-8 byte of the choice (acc_norm). The first of equals wins.
 */
export async function measureChoices(
  prepared: PreparedTask<ChoiceTask>,
  context: MeasureContext,
): Promise<Measurement[]> {
  const { task, items, preamble } = prepared;
  const pairs = await encodePairs(
    context.model,
    items.flatMap(({ id, prompt, choices }) =>
      choices.map((choice) => ({
        context: preamble + prompt,
        continuation: joinAnswer(prompt, choice, task),
        where: `task ${task.name}, item ${id}`,
      })),
    ),
  );
  const scores = await scoreSequences(
    context.model,
    pairs.map(({ request }) => request),
    context,
  );
  let next = 0;
  const picked = items.map((item) => {
    const likelihoods = item.choices.map(() => sum(scores[next++]?.logprobs ?? []));
    const perByte = likelihoods.map((l, i) => l / Math.max(1, Buffer.byteLength(item.choices[i] as string)));
    return { plain: firstLargest(likelihoods), norm: firstLargest(perByte) };
  });
  const notes = cutNote(pairs.filter(({ isCut }) => isCut).length, pairs.length);
  const accuracy = (metric: string, choose: (choice: { plain: number; norm: number }) => number): Measurement => ({
    metric,
    better: "higher",
    items: items.map(({ id, cluster, answer }, i) => ({
      id,
      cluster,
      amount: choose(picked[i] as { plain: number; norm: number }) === answer ? 1 : 0,
      weight: 1,
    })),
    notes,
  });
  return [accuracy("accuracy", ({ plain }) => plain), accuracy("accuracy-norm", ({ norm }) => norm)];
}

function firstLargest(values: readonly number[]): number {
  let best = 0;
  for (const [i, value] of values.entries()) if (value > (values[best] as number)) best = i;
  return best;
}
