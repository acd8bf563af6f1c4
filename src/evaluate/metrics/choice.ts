import { scoreSequences } from "../../generate/index.ts";
import { encodePairs } from "../encode.ts";
import { joinAnswer, type PreparedTask } from "../few-shot.ts";
import type { Measurement } from "../result.ts";
import type { ChoiceItem, ChoiceTask } from "../task.ts";
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
  const likelihoods = items.map((item) => item.choices.map(() => sum(scores[next++]?.logprobs ?? [])));
  return accuracies(items, likelihoods, cutNote(pairs.filter(({ isCut }) => isCut).length, pairs.length));
}

/** Both metrics from the summed log-probability of every choice of every item. */
export function accuracies(
  items: readonly ChoiceItem[],
  likelihoods: readonly (readonly number[])[],
  notes: readonly string[] = [],
): Measurement[] {
  const accuracy = (metric: string, weigh: (likelihood: number, choice: string) => number): Measurement => ({
    metric,
    better: "higher",
    items: items.map(({ id, cluster, answer, choices }, i) => {
      const weighed = choices.map((choice, c) => weigh(likelihoods[i]?.[c] as number, choice));
      return { id, cluster, amount: firstLargest(weighed) === answer ? 1 : 0, weight: 1 };
    }),
    notes,
  });
  return [
    accuracy("accuracy", (likelihood) => likelihood),
    accuracy("accuracy-norm", (likelihood, choice) => likelihood / Math.max(1, Buffer.byteLength(choice))),
  ];
}

function firstLargest(values: readonly number[]): number {
  let best = 0;
  for (const [i, value] of values.entries()) if (value > (values[best] as number)) best = i;
  return best;
}
