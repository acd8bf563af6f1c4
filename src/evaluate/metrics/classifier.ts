import { PlinthError } from "../../base/index.ts";
import { encodeTextPairs, runHead } from "../../generate/index.ts";
import { headOf } from "../../models/index.ts";
import type { PreparedTask } from "../few-shot.ts";
import type { Measurement } from "../result.ts";
import type { ChoiceItem, ChoiceTask } from "../task.ts";
import type { MeasureContext } from "./context.ts";

/**
 * Multiple choice by a sequence classifier: `accuracy` of its likeliest label. The choices are the labels by name or, where the names
 * differ, in their order. Throws PlinthError when neither fits, and for examples, which a classifier does not read.
 */
export async function measureClassifier(
  { task, items, preamble }: PreparedTask<ChoiceTask>,
  context: MeasureContext,
): Promise<Measurement[]> {
  if (preamble !== "") {
    throw new PlinthError(`task ${task.name}: a classifier reads no examples`, "leave out --shots");
  }
  const { model, batchSize, ...how } = context;
  const { labels } = headOf(model.config);
  const encoded = await encodeTextPairs(
    model,
    items.map(({ text, pair, prompt }) => ({ text: text ?? prompt, pair })),
  );
  const results = await runHead(model, encoded, { ...how, batchSize });
  const cut = encoded.filter(({ isCut }) => isCut).length;
  return [
    {
      metric: "accuracy",
      better: "higher",
      items: items.map((item, i) => {
        const logits = results[i]?.values ?? new Float32Array();
        const right = labelOf(item, labels, task.name);
        const isRight = logits.every((logit, label) => label === right || logit < (logits[right] as number));
        return { id: item.id, cluster: item.cluster, amount: isRight ? 1 : 0, weight: 1 };
      }),
      notes:
        cut === 0 ? [] : [`${cut} of ${items.length} texts were longer than the model's context and lost their end`],
    },
  ];
}

/** The classifier's label of an item's right choice. */
function labelOf({ choices, answer, id }: ChoiceItem, labels: readonly string[], task: string): number {
  const byName = choices.map((choice) => labels.indexOf(choice));
  if (byName.every((label) => label >= 0)) return byName[answer] as number;
  if (choices.length === labels.length) return answer;
  throw new PlinthError(
    `task ${task}, item ${id}: choices ${choices.join(", ")} for a classifier of ${labels.join(", ")}`,
    "use the task that the classifier was trained for",
  );
}
