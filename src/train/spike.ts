import type { SpikeOptions } from "./types.ts";

const defaults: SpikeOptions = { sigmas: 6, patience: 8, window: 128 };

export interface SpikeState {
  readonly recent: readonly number[];
  readonly streak: number;
}

/**
 * Notices that the loss has left its recent range and does not come back. Suspicious losses do not enter the range, so
 * a slow rise cannot hide itself. The state is plain data and belongs to the checkpoint.
 */
export class SpikeDetector {
  readonly options: SpikeOptions;
  #recent: number[] = [];
  #streak = 0;

  constructor(options: Partial<SpikeOptions> = {}) {
    this.options = { ...defaults, ...options };
  }

  get state(): SpikeState {
    return { recent: [...this.#recent], streak: this.#streak };
  }

  restore(state: SpikeState): void {
    this.#recent = [...state.recent];
    this.#streak = state.streak;
  }

  /** True while the last losses are above the limit, though not yet for long enough to stop. */
  get suspicious(): boolean {
    return this.#streak > 0;
  }

  /** Loss above which a step is suspicious, and the mean it is measured from; undefined while too little is known. */
  get limit(): { readonly mean: number; readonly limit: number } | undefined {
    const n = this.#recent.length;
    if (n < Math.max(2, this.options.window / 4)) return undefined;
    const mean = this.#recent.reduce((sum, x) => sum + x, 0) / n;
    const variance = this.#recent.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (n - 1);
    // A loss that hardly varies (overfitting, constant data) would make the limit meaninglessly tight.
    const sigma = Math.max(Math.sqrt(variance), 0.02 * Math.abs(mean), 1e-3);
    return { mean, limit: mean + this.options.sigmas * sigma };
  }

  /** Takes the loss of a step; true when the run should stop. */
  add(loss: number): boolean {
    const limit = this.limit;
    if (limit !== undefined && loss > limit.limit) {
      this.#streak++;
      return this.#streak >= this.options.patience;
    }
    this.#streak = 0;
    this.#recent.push(loss);
    if (this.#recent.length > this.options.window) this.#recent.shift();
    return false;
  }
}
