import { PlinthError } from "../../base/index.ts";
import { type Batch, ignoreIndex } from "../../data/index.ts";
import { argmax, cast, equal, jit, NdArray, sum, type Tensor } from "../../engine/index.ts";
import { objectiveOf } from "../../train/index.ts";
import { requireTokenizer } from "../encode.ts";
import type { PreparedTask } from "../few-shot.ts";
import type { Measurement } from "../result.ts";
import type { TextTask } from "../task.ts";
import type { MeasureContext } from "./context.ts";

/** What a text came to. */
interface Score {
  nats: number;
  targets: number;
  right: number;
  hidden: number;
}

/**
 * Texts by a model that does not continue them: how well it does what it was pretrained on. `accuracy` of the hidden tokens
 * (masked ones, or the words of the spans that were taken out) and `loss`, nats per target. Which tokens are hidden follows from the
 * place of a text in the task; a note says what the commonest token would get right.
 */
export async function measureObjective(
  { task, items }: PreparedTask<TextTask>,
  context: MeasureContext,
): Promise<Measurement[]> {
  const { model, backend, precision = "f32", signal, onProgress } = context;
  const { loss, heldOut } = objectiveOf(model, undefined, {});
  const program = jit(
    (params: Readonly<Record<string, Tensor>>, arrays: Readonly<Record<string, Tensor>>) => {
      const { lossSum, tokenCount, predictions } = loss(params, {}, arrays, undefined);
      if (predictions === undefined) throw new Error(`${model.family.modelType}: an objective without predictions.`);
      const { logits, targets } = predictions();
      return { lossSum, tokenCount, right: sum(cast(equal(argmax(logits), targets), "float32")), targets };
    },
    { ...(backend === undefined ? {} : { backend }), precision, name: "objective" },
  );
  const params = Object.fromEntries(model.params);
  const scores = items.map((): Score => ({ nats: 0, targets: 0, right: 0, hidden: 0 }));
  const counts = new Map<number, number>();
  const rows = await rowsOf(items, context);
  const batches = async function* (): AsyncGenerator<Batch> {
    for (const { batch } of rows) yield batch;
  };
  let done = 0;
  for await (const { arrays } of heldOut(batches())()) {
    signal?.throwIfAborted();
    const out = await program(params, arrays);
    const score = scores[rows[done++]?.item as number] as Score;
    score.nats += out.lossSum.item();
    score.targets += out.tokenCount.item();
    score.right += out.right.item();
    for (const id of (await out.targets.read()) as Int32Array) {
      if (id === ignoreIndex) continue;
      score.hidden++;
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
    onProgress?.(done, rows.length);
  }
  const total = scores.reduce((sum, { hidden }) => sum + hidden, 0);
  if (total === 0) {
    throw new PlinthError(`task ${task.name}: the texts have nothing to predict`, "give texts of some words at least");
  }
  const commonest = Math.max(...counts.values()) / total;
  const shares = (amount: (score: Score) => number, weight: (score: Score) => number) =>
    items.map(({ id, cluster }, i) => {
      const score = scores[i] as Score;
      return { id, cluster, amount: amount(score), weight: weight(score) };
    });
  return [
    {
      metric: "accuracy",
      better: "higher",
      items: shares(
        ({ right }) => right,
        ({ hidden }) => hidden,
      ),
      notes: [`always the commonest token: ${commonest.toFixed(3)} of ${total} hidden tokens`],
    },
    {
      metric: "loss",
      better: "lower",
      items: shares(
        ({ nats }) => nats,
        ({ targets }) => targets,
      ),
    },
  ];
}

/** The texts in pieces that fit the model, one to a row. */
async function rowsOf(items: PreparedTask<TextTask>["items"], { model }: MeasureContext) {
  const encoded = await requireTokenizer(model).encodeBatch(
    items.map(({ text }) => text),
    { addSpecialTokens: model.family.kind === "encoder" },
  );
  const T = model.config.contextLength;
  const rows: { item: number; batch: Batch }[] = [];
  for (const [item, ids] of encoded.entries()) {
    for (let from = 0; from < ids.length; from += T) {
      const piece = ids.subarray(from, from + T);
      const [tokens, targets, segments] = [new Int32Array(T), new Int32Array(T).fill(ignoreIndex), new Int32Array(T)];
      tokens.set(piece);
      targets.set(piece);
      segments.fill(1, 0, piece.length);
      const array = (data: Int32Array): NdArray => NdArray.int32([1, T], data);
      const arrays = { tokens: array(tokens), targets: array(targets), segments: array(segments) };
      rows.push({ item, batch: { ...arrays, tokenCount: piece.length, byteCount: 0 } });
    }
  }
  return rows;
}
