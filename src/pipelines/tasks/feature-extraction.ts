import { NdArray } from "../../engine/index.ts";
import { definePipeline } from "../pipeline.ts";
import { headResult } from "../scores.ts";

export interface FeatureOptions {
  /** "none" (default): every token. "mean": the mean of the tokens. "cls": the first token. */
  readonly pooling?: "none" | "mean" | "cls";
  /** Divide every vector by its length; default false. */
  readonly normalize?: boolean;
}

/** Vectors of a text, float32[T,D], or [D] with `pooling`. */
export type FeatureExtraction = (text: string, options?: FeatureOptions) => Promise<NdArray>;

definePipeline<FeatureExtraction>({
  names: ["feature-extraction"],
  head: "none",
  create({ model, tokenizer, run }) {
    return async (text, { pooling = "none", normalize = false } = {}) => {
      const maxLength = model.config.contextLength;
      const encoded = await tokenizer.encodeWithOffsets(text, { addSpecialTokens: true, maxLength });
      const { values, shape } = await headResult(model, encoded, run);
      const [T, D] = shape as [number, number];
      const rows = Array.from({ length: T }, (_, t) => values.subarray(t * D, (t + 1) * D));
      const pooled = pooling === "none" ? rows : pooling === "cls" ? rows.slice(0, 1) : [mean(rows)];
      const vectors = normalize ? pooled.map(unit) : pooled;
      const flat = new Float32Array(vectors.length * D);
      for (const [i, vector] of vectors.entries()) flat.set(vector, i * D);
      return NdArray.float32(pooling === "none" ? [T, D] : [D], flat);
    };
  },
});

function mean(rows: readonly Float32Array[]): Float32Array {
  const first = rows[0] as Float32Array;
  return first.map((_, d) => rows.reduce((sum, row) => sum + (row[d] as number), 0) / rows.length);
}

function unit(vector: Float32Array): Float32Array {
  const length = Math.max(1e-12, Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0)));
  return vector.map((x) => x / length);
}
