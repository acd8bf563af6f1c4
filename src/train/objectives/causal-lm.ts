import { type Batch, type BatchSource, ignoreIndex } from "../../data/index.ts";
import { cast, notEqual, reshape, sum, type Tensor } from "../../engine/index.ts";
import { expectDecoder, type ModelConfig, type ModelFamily, tokenLosses } from "../../models/index.ts";
import type { LossFunction, TrainBatch, TrainData } from "../types.ts";
import { type Assemble, assemblePlain } from "./assemble.ts";
import { definePretraining } from "./pretraining.ts";

export interface CausalLmOptions {
  readonly assemble?: Assemble | undefined;
  /** Activation checkpointing: keep only the inputs of the model's blocks, compute the rest again. */
  readonly remat?: boolean | undefined;
}

/**
 * Next-token prediction for any decoder: the summed cross-entropy of logits[B,T,V] against targets[B,T] in nats
 * (float32 sums), over the targets that are not ignored. Reads `tokens`, `targets` and, where the batch has them,
 * `positions` and `segments` (documents packed side by side do not see each other); for an encoder-decoder `source` and
 * `sourceSegments` too.
 */
export function causalLm<C extends ModelConfig>(
  family: ModelFamily<C>,
  config: C,
  { assemble = assemblePlain, remat }: CausalLmOptions = {},
): LossFunction {
  return (trainable, frozen, batch, key) => {
    const { targets, ...inputs } = batch as Record<"tokens" | "targets", Tensor> &
      Partial<Record<"positions" | "segments" | "source" | "sourceSegments", Tensor>>;
    const params = assemble(trainable, frozen, key);
    const context = { dropoutKey: key, remat };
    const flat = reshape(targets, [-1]);
    const losses = tokenLosses({ family, config, params, context, ignoreIndex }, inputs, flat);
    return {
      lossSum: sum(losses),
      tokenCount: sum(cast(notEqual(flat, ignoreIndex), "float32")),
      predictions: () => {
        const { logits } = family.forward(params, inputs, config, context);
        return { logits: reshape(logits, [-1, config.vocabSize]), targets: flat };
      },
    };
  };
}

/** The arrays of a batch by name, as the objectives read them. */
export function causalLmBatch({ tokenCount, byteCount, ...arrays }: Batch): TrainBatch {
  const present = Object.entries(arrays).filter(([, array]) => array !== undefined);
  return { arrays: Object.fromEntries(present), tokenCount, byteCount };
}

/** A source of batches as data for `train`. */
export function causalLmData(source: BatchSource): TrainData {
  return {
    next: async () => causalLmBatch(await source.next()),
    state: () => source.state(),
    restore: (state) => source.restore(state),
  };
}

/** Held-out batches as `train` reads them. */
export function causalLmHeldOut(batches: AsyncIterable<Batch>) {
  return async function* (): AsyncGenerator<TrainBatch> {
    for await (const batch of batches) yield causalLmBatch(batch);
  };
}

definePretraining({
  name: "clm",
  summary: "predict the next token (decoders)",
  defaultOf: "decoder",
  prepare({ family, config }, { remat, assemble }) {
    expectDecoder(family, "objective clm", config);
    return { loss: causalLm(family, config, { remat, assemble }), data: causalLmData, heldOut: causalLmHeldOut };
  },
});
