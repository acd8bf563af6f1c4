import type { JsonValue } from "../data/index.ts";
import type { TrainBatch, TrainData } from "./types.ts";

/**
 * Reads one batch ahead, so that data is made while the engine works. `state()` is the position after the last batch
 * handed out, not after the one that waits: that is what a checkpoint must store.
 */
export class Prefetcher implements TrainData {
  readonly #source: TrainData;
  #state: JsonValue;
  #pending: Promise<{ batch: TrainBatch; state: JsonValue }> | undefined;

  constructor(source: TrainData) {
    this.#source = source;
    this.#state = source.state();
  }

  async next(): Promise<TrainBatch> {
    const { batch, state } = await (this.#pending ?? this.#read());
    this.#state = state;
    this.#pending = this.#read();
    // An error is reported by the next call, not as an unhandled rejection meanwhile.
    this.#pending.catch(() => undefined);
    return batch;
  }

  state(): JsonValue {
    return this.#state;
  }

  async restore(state: JsonValue): Promise<void> {
    await this.#pending?.catch(() => undefined);
    this.#pending = undefined;
    await this.#source.restore(state);
    this.#state = state;
  }

  async #read(): Promise<{ batch: TrainBatch; state: JsonValue }> {
    const batch = await this.#source.next();
    return { batch, state: this.#source.state() };
  }
}
