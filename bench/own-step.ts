import { type Probe, trainProbe } from "../src/cli/bench/probes.ts";
import type { Precision } from "../src/engine/index.ts";
import { countParameters, initModel, modelFamily } from "../src/models/index.ts";
import { secondsOf } from "./peer.ts";

/** A training step to race: random weights and tokens, AdamW, gradient clipping, no dropout. */
export interface StepShape {
  readonly arch: "gpt2" | "bert";
  readonly layers: number;
  readonly width: number;
  readonly heads: number;
  readonly vocab: number;
  readonly context: number;
  readonly batch: number;
}

/** A step of ours. */
export interface OwnStep {
  /** Runs it once; seconds. */
  readonly run: () => Promise<number>;
  readonly flops: number;
  readonly peakBytes: number;
  readonly parameters: number;
  readonly executables: Probe["executables"];
}

export async function ownStep(shape: StepShape, precision: Precision): Promise<OwnStep> {
  const family = modelFamily(shape.arch);
  const config = family.createConfig({
    vocabSize: shape.vocab,
    contextLength: shape.context,
    hiddenSize: shape.width,
    numLayers: shape.layers,
    numHeads: shape.heads,
  });
  const model = initModel(family, config, { seed: 0 });
  const parameters = countParameters(model);
  const probe = trainProbe(model, { batchSize: shape.batch, context: shape.context, precision });
  const run = () => secondsOf(probe.run);
  const { flops, peakBytes, executables } = probe;
  return { run, flops, peakBytes, parameters, executables };
}
