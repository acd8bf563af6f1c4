import { PlinthError, sha256 } from "../base/index.ts";
import { type Batch, contiguousBatch, type PackedRow, packedBatch } from "./batch.ts";
import {
  type BatchSource,
  checkFingerprint,
  countedBatches,
  type Fingerprint,
  type JsonValue,
} from "./batch-source.ts";
import { chunksOf, type PackingReport, packingReport } from "./packing.ts";
import { type RowPosition, RowStream, randomFor } from "./row-stream.ts";
import type { TokenDocuments } from "./token-documents.ts";

export interface MixtureComponent {
  readonly documents: TokenDocuments;
  /** Share of the rows, relative to the other components. */
  readonly weight: number;
}

export type Mixture = TokenDocuments | readonly MixtureComponent[];

export interface BatchOptions {
  readonly batchSize: number;
  /** Tokens per row. */
  readonly context: number;
  readonly seed?: number;
  /**
   * `packed` (default): whole documents side by side, each seeing only itself. `contiguous`: random windows of one
   * stream of tokens, drawn with replacement, blind to document boundaries (nanoGPT).
   */
  readonly mode?: "packed" | "contiguous";
}

/**
 * Batches for training. Packed: every epoch visits the pieces of documents that fit a row in a new order, packs them
 * best-fit and shuffles the rows; components of a mixture take turns so that each has its share of the rows at all times. Throws PlinthError when
 * there is nothing to train on or a weight is not positive.
 */
export function packedBatches(mixture: Mixture, options: BatchOptions): BatchSource {
  const components = checkMixture(mixture, options);
  return options.mode === "contiguous"
    ? contiguousBatches(components, options)
    : new PackedBatches(components, options);
}

function checkMixture(mixture: Mixture, { batchSize, context, mode }: BatchOptions): readonly MixtureComponent[] {
  const components = "source" in mixture ? [{ documents: mixture, weight: 1 }] : mixture;
  for (const [name, value] of Object.entries({ "--batch-size": batchSize, "--context": context })) {
    if (!Number.isInteger(value) || value < 1)
      throw new PlinthError(`${name}: expected a whole number >= 1, got ${value}`, "try 8");
  }
  if (components.length === 0) throw new PlinthError("the mixture has no datasets", "name at least one with --data");
  for (const [i, { documents, weight }] of components.entries()) {
    if (!(weight > 0) || !Number.isFinite(weight)) {
      throw new PlinthError(
        `dataset ${i + 1} of the mixture: expected a weight > 0, got ${weight}`,
        "leave it out instead",
      );
    }
    const needed = mode === "contiguous" ? context + 1 : 1;
    if (documents.tokenCount < needed || (mode !== "contiguous" && !hasChunks(documents, context))) {
      throw new PlinthError(
        `dataset ${i + 1} of the mixture has ${documents.tokenCount} tokens in ${documents.count} documents, nothing to predict at context ${context}`,
        mode === "contiguous" ? "use a shorter context or more text" : "add documents",
      );
    }
  }
  return components;
}

function hasChunks(documents: TokenDocuments, context: number): boolean {
  for (let i = 0; i < documents.count; i++) if (chunksOf(documents, i, context).length > 0) return true;
  return false;
}

function fingerprint(
  components: readonly MixtureComponent[],
  { batchSize, context, seed = 0, mode = "packed" }: BatchOptions,
): Fingerprint {
  const data = components.map(({ documents, weight }) => ({
    hash: documents.hash,
    weight,
    bos: documents.source.bosId ?? null,
  }));
  return { data: sha256(JSON.stringify(data)).slice(0, 16), batchSize, context, seed, mode };
}

const names = { data: "the data, its weights or the tokenizer" };

function contiguousBatches(components: readonly MixtureComponent[], options: BatchOptions): BatchSource {
  const { batchSize, context, seed = 0 } = options;
  const [component, ...more] = components as [MixtureComponent, ...MixtureComponent[]];
  if (more.length > 0) {
    throw new PlinthError("contiguous batches are drawn from one dataset", "use packed batches for a mixture");
  }
  const { documents } = component;
  const next = (step: number): Promise<Batch> => {
    const random = randomFor(seed, step);
    const starts = Array.from({ length: batchSize }, () => random.int(documents.tokenCount - context));
    return contiguousBatch(documents, starts, context);
  };
  return countedBatches(fingerprint(components, options), next, names);
}

class PackedBatches implements BatchSource {
  readonly reports: readonly PackingReport[];
  readonly #components: readonly MixtureComponent[];
  readonly #options: BatchOptions;
  readonly #fingerprint: Fingerprint;
  readonly #streams: readonly RowStream[];
  /** Rows taken from each component so far. */
  #taken: number[];

  constructor(components: readonly MixtureComponent[], options: BatchOptions) {
    const { context, seed = 0 } = options;
    this.#components = components;
    this.#options = options;
    this.#fingerprint = fingerprint(components, options);
    this.#streams = components.map(({ documents }, i) => new RowStream(documents, { context, seed, component: i }));
    this.#taken = components.map(() => 0);
    this.reports = components.map(({ documents }) => packingReport(documents, context));
  }

  async next(): Promise<Batch> {
    const rows: PackedRow[] = [];
    while (rows.length < this.#options.batchSize) {
      const i = this.#mostBehind();
      this.#taken[i] = (this.#taken[i] as number) + 1;
      const stream = this.#streams[i] as RowStream;
      rows.push({ documents: stream.documents, row: stream.next() });
    }
    return packedBatch(rows, this.#options.context);
  }

  /** The component whose next row keeps all shares closest to the weights. */
  #mostBehind(): number {
    let best = 0;
    for (const [i, { weight }] of this.#components.entries()) {
      const due = (k: number, w: number) => ((this.#taken[k] as number) + 1) / w;
      if (due(i, weight) < due(best, (this.#components[best] as MixtureComponent).weight)) best = i;
    }
    return best;
  }

  state(): JsonValue {
    return { ...this.#fingerprint, taken: [...this.#taken], streams: this.#streams.map((stream) => stream.state()) };
  }

  restore(state: JsonValue): void {
    checkFingerprint(state, this.#fingerprint, names);
    const saved = state as unknown as { taken: number[]; streams: RowPosition[] };
    this.#taken = [...saved.taken];
    for (const [i, stream] of this.#streams.entries()) stream.restore(saved.streams[i] as RowPosition);
  }
}
