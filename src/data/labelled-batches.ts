import { PlinthError, sha256 } from "../base/index.ts";
import { NdArray } from "../engine/index.ts";
import { type Batch, ignoreIndex } from "./batch.ts";
import { type BatchSource, countedBatches } from "./batch-source.ts";
import { PaddedRows } from "./padded-rows.ts";
import { randomFor } from "./row-stream.ts";

/** A text as ids and what is to be learned of it. */
export interface LabelledText {
  readonly ids: ArrayLike<number>;
  /** 0 or 1 per token; all 0 when absent. */
  readonly types?: ArrayLike<number>;
  /** As {@link TargetLayout} says: one class, a class per token (-100: none), or as many values as the layout has. */
  readonly target: ArrayLike<number>;
}

/** What the targets of a batch are: `class` int32[B], `token` int32[B,T], `span` int32[B,2] (places in the row), `values` float32[B,n]. */
export type TargetLayout =
  | { readonly kind: "class" | "token" | "span" }
  | { readonly kind: "values"; readonly count: number };

export interface LabelledOptions {
  readonly batchSize: number;
  /** Tokens per row; longer texts must have been cut. */
  readonly context: number;
  readonly layout: TargetLayout;
  /** Fills rows. */
  readonly pad: number;
  readonly seed?: number;
}

/** Batches of labelled texts, one to a row, in a new order every epoch; segments are 1 for text and 0 for padding. */
export function labelledBatches(texts: readonly LabelledText[], options: LabelledOptions): BatchSource {
  const { batchSize, context, seed = 0 } = options;
  if (texts.length === 0) throw new PlinthError("there are no labelled texts to learn from", "check the data");
  const hash = labelledHash(texts);
  const fingerprint = { data: hash.slice(0, 16), batchSize, context, seed };
  let order: { readonly epoch: number; readonly texts: readonly number[] } | undefined;
  const at = (row: number): LabelledText => {
    const epoch = Math.floor(row / texts.length);
    if (order?.epoch !== epoch) order = { epoch, texts: randomFor(seed, epoch).shuffle([...texts.keys()]) };
    return texts[order.texts[row % texts.length] as number] as LabelledText;
  };
  return countedBatches(fingerprint, async (step) => {
    const rows = Array.from({ length: batchSize }, (_, i) => at(step * batchSize + i));
    return labelledBatch(rows, options);
  });
}

/** One pass over labelled texts in their order; rows of the last batch that are left are padding without targets. */
export function labelledHeldOut(texts: readonly LabelledText[], options: LabelledOptions): AsyncIterable<Batch> {
  return {
    async *[Symbol.asyncIterator]() {
      for (let at = 0; at < texts.length; at += options.batchSize) {
        yield labelledBatch(texts.slice(at, at + options.batchSize), options);
      }
    },
  };
}

/** Identity of labelled texts. */
export function labelledHash(texts: readonly LabelledText[]): string {
  return sha256(JSON.stringify(texts.map(({ ids, target }) => [Array.from(ids), Array.from(target)])));
}

function labelledBatch(texts: readonly LabelledText[], options: LabelledOptions): Batch {
  const { batchSize: B, context: T, layout, pad } = options;
  const rows = new PaddedRows(B, { context: T, pad });
  const width = { class: 1, token: T, span: 2, values: layout.kind === "values" ? layout.count : 0 }[layout.kind];
  const targets = layout.kind === "values" ? new Float32Array(B * width) : new Int32Array(B * width).fill(ignoreIndex);
  for (const [row, { ids, types, target }] of texts.entries()) {
    rows.set(row, ids, types);
    targets.set(target, row * width);
  }
  const shape = layout.kind === "class" ? [B] : [B, width];
  const count =
    layout.kind === "token" ? (targets as Int32Array).filter((t) => t !== ignoreIndex).length : texts.length;
  return {
    ...rows.arrays(),
    targets: targets instanceof Float32Array ? NdArray.float32(shape, targets) : NdArray.int32(shape, targets),
    tokenCount: count,
    byteCount: count,
  };
}

/**
 * Batches of texts that belong together, for contrastive learning: `group` rows of `texts` in a row are one text, the one that means
 * the same and, with three, one that does not. A batch has all first texts of its groups, then all second, then all third; `targets` are
 * the numbers of the second texts. `batchSize` counts groups.
 */
export function contrastiveBatches(
  texts: readonly LabelledText[],
  group: 2 | 3,
  options: Omit<LabelledOptions, "layout">,
): BatchSource {
  const groups = Array.from({ length: texts.length / group }, (_, i) => texts.slice(i * group, (i + 1) * group));
  const first = groups.map(([text], i) => ({ ids: (text as LabelledText).ids, target: [i] }));
  const source = labelledBatches(first, { ...options, layout: { kind: "class" } });
  return {
    ...source,
    async next() {
      const { targets } = await source.next();
      return contrastiveBatch(
        [...(targets.data as Int32Array)].map((i) => groups[i] as LabelledText[]),
        options,
      );
    },
  };
}

/** One pass over groups in their order; the last batch is left out where it is not full, because how many there are makes the task. */
export function contrastiveHeldOut(
  texts: readonly LabelledText[],
  group: 2 | 3,
  options: Omit<LabelledOptions, "layout">,
): AsyncIterable<Batch> {
  const { batchSize } = options;
  return {
    async *[Symbol.asyncIterator]() {
      for (let at = 0; at + batchSize * group <= texts.length; at += batchSize * group) {
        const groups = Array.from({ length: batchSize }, (_, i) => texts.slice(at + i * group, at + (i + 1) * group));
        yield contrastiveBatch(groups, options);
      }
    },
  };
}

function contrastiveBatch(
  groups: readonly (readonly LabelledText[])[],
  options: Omit<LabelledOptions, "layout">,
): Batch {
  const width = (groups[0] as readonly LabelledText[]).length;
  const rows = Array.from({ length: width }, (_, part) => groups.map((group) => group[part] as LabelledText)).flat();
  const layout = { kind: "class" } as const;
  const batch = labelledBatch(rows, { ...options, batchSize: rows.length, layout });
  const targets = NdArray.int32([groups.length], Int32Array.from(groups.keys()));
  return { ...batch, targets, tokenCount: groups.length, byteCount: groups.length };
}
