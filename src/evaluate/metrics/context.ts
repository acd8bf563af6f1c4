import type { Backend, Precision } from "../../engine/index.ts";
import type { Model } from "../../models/index.ts";

/** What only tasks that run generated programs read. */
export interface CodeOptions {
  /** Programs sampled per problem; default 1, greedily. */
  readonly samples?: number | undefined;
  /** The k of pass@k; default 1, and 10 where there are as many samples. */
  readonly ks?: readonly number[] | undefined;
  /** Default 0 for one sample, 0.2 for fewer than ten, else 0.8. */
  readonly temperature?: number | undefined;
  /** Chooses the samples; default 0. */
  readonly seed?: number | undefined;
  /** Programs run at a time; default the number of cores. */
  readonly parallel?: number | undefined;
  /** Run programs even where they can reach network and files. Default false. */
  readonly allowUnsafe?: boolean | undefined;
  /** Python interpreter; default python3. */
  readonly python?: string | undefined;
}

/** What every kind of measurement gets beside its items. */
export interface MeasureContext {
  readonly model: Model;
  readonly batchSize: number;
  /** Tokens that a window repeats from the one before it. */
  readonly overlap: number;
  readonly code: CodeOptions;
  readonly backend?: Backend | undefined;
  readonly precision?: Precision | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

export function cutNote(count: number, total: number): string[] {
  if (count === 0) return [];
  return [`${count} of ${total} prompts were longer than the model's context and lost their beginning`];
}
