import { PlinthError } from "../../base/index.ts";
import { scoreSequences } from "../../generate/index.ts";
import { encodeTexts } from "../encode.ts";
import type { PreparedTask } from "../few-shot.ts";
import type { Measurement } from "../result.ts";
import type { TextTask } from "../task.ts";
import type { MeasureContext } from "./context.ts";

/**
 * Bits per byte (summed negative log-likelihood in bits over UTF-8 bytes; comparable between tokenizers) and
 * perplexity (e to the nats per token). Both are ratios of sums over documents; the standard error is over documents.
 */
export async function measureTexts(prepared: PreparedTask<TextTask>, context: MeasureContext): Promise<Measurement[]> {
  const texts = await encodeTexts(
    context.model,
    prepared.items.map(({ text }) => text),
    context.overlap,
  );
  if (texts.every(({ tokenCount }) => tokenCount === 0)) {
    throw new PlinthError(`task ${prepared.task.name}: the texts are empty`, "check the data it reads");
  }
  const scores = await scoreSequences(
    context.model,
    texts.flatMap(({ windows }) => windows),
    context,
  );
  let next = 0;
  const nats = texts.map(({ windows }) => {
    let sum = 0;
    for (const _ of windows) for (const logprob of scores[next++]?.logprobs ?? []) sum -= logprob;
    return sum;
  });
  const shares = (scale: number, weight: (i: number) => number) =>
    prepared.items.map(({ id, cluster }, i) => ({
      id,
      cluster,
      amount: (nats[i] as number) * scale,
      weight: weight(i),
    }));
  return [
    { metric: "bits-per-byte", better: "lower", items: shares(1 / Math.LN2, (i) => texts[i]?.byteCount ?? 0) },
    { metric: "perplexity", better: "lower", exponential: true, items: shares(1, (i) => texts[i]?.tokenCount ?? 0) },
  ];
}
