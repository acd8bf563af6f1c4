import type { Backend, Precision } from "../../engine/index.ts";
import type { Model } from "../../models/index.ts";

/** What every kind of measurement gets beside its items. */
export interface MeasureContext {
  readonly model: Model;
  readonly batchSize: number;
  /** Tokens that a window repeats from the one before it. */
  readonly overlap: number;
  readonly backend?: Backend | undefined;
  readonly precision?: Precision | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

export function cutNote(count: number, total: number): string[] {
  if (count === 0) return [];
  return [`${count} of ${total} prompts were longer than the model's context and lost their beginning`];
}
