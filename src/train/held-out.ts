import { type Backend, jit, type Precision, type Tensor } from "../engine/index.ts";
import type { HeldOut, LossFunction, Parameters, TrainBatch } from "./types.ts";

/** Measures a loss without training: no dropout, nothing donated. */
export class HeldOutMeasure {
  readonly #measure;
  readonly #batches: () => AsyncIterable<TrainBatch> | Iterable<TrainBatch>;

  constructor(
    loss: LossFunction,
    batches: () => AsyncIterable<TrainBatch> | Iterable<TrainBatch>,
    options: { readonly backend?: Backend | undefined; readonly precision?: Precision | undefined },
  ) {
    this.#batches = batches;
    type Named = Readonly<Record<string, Tensor>>;
    this.#measure = jit(
      (trainable: Named, frozen: Named, batch: Named) => {
        const { lossSum, tokenCount } = loss(trainable, frozen, batch, undefined);
        return { lossSum, tokenCount };
      },
      {
        name: "held-out loss",
        ...(options.backend === undefined ? {} : { backend: options.backend }),
        precision: options.precision ?? "f32",
      },
    );
  }

  /**
   * Bits per byte of text: the summed loss in bits over the bytes that its target tokens stand for, so models with
   * different tokenizers compare. Sums over batches are kept in float64.
   */
  async run(trainable: Parameters, frozen: Parameters): Promise<HeldOut> {
    let nats = 0;
    let tokens = 0;
    let bytes = 0;
    for await (const batch of this.#batches()) {
      const { lossSum, tokenCount } = await this.#measure(trainable, frozen, batch.arrays);
      nats += (await lossSum.read())[0] as number;
      tokens += (await tokenCount.read())[0] as number;
      bytes += batch.byteCount;
    }
    return { bitsPerByte: nats / Math.LN2 / bytes, loss: nats / tokens, tokens };
  }
}
