import { stat } from "node:fs/promises";
import { join } from "node:path";
import { explainWriteError, makeFolder, PlinthError } from "../base/index.ts";
import type { JsonValue } from "../data/index.ts";
import { formatShape, type NdArray, sameShape } from "../engine/index.ts";
import {
  type CheckpointInfo,
  listCheckpoints,
  ownCopy,
  type RunState,
  readRunState,
  removeTemporaries,
} from "./checkpoint.ts";
import { checkSameRun, codeVersion } from "./identity.ts";
import { lockFolder } from "./lock.ts";
import type { Parameters, TrainOptions } from "./types.ts";

export interface Start {
  readonly checkpoint: CheckpointInfo;
  readonly state: RunState;
  readonly parameters: Parameters;
}

/** Everything that decides the result of a run, the user's own names first. */
export function runConfig(options: TrainOptions): Readonly<Record<string, JsonValue>> {
  const { clipNorm = 1 } = options;
  const own: Record<string, JsonValue> = {
    ...options.config,
    seed: options.seed ?? 0,
    steps: options.steps,
    accumulate: options.accumulate ?? 1,
    schedule: { ...options.schedule } as JsonValue,
    optimizer: { name: options.optimizer?.name ?? "adamw", ...options.optimizer?.options },
    clipNorm: Number.isFinite(clipNorm) ? clipNorm : null,
    precision: options.precision ?? "f32",
  };
  if (options.dataHash !== undefined) own.dataHash = options.dataHash;
  return own;
}

/** Throws PlinthError at the first option that cannot be meant. */
export function checkOptions(options: TrainOptions): void {
  const whole = (name: string, value: number | undefined, least: number): void => {
    if (value === undefined || (Number.isInteger(value) && value >= least)) return;
    throw new PlinthError(`${name}: expected a whole number of at least ${least}, got ${value}`, `correct ${name}`);
  };
  whole("steps", options.steps, 1);
  whole("accumulate", options.accumulate, 1);
  whole("checkpointEvery", options.checkpointEvery, 1);
  whole("heldOutEvery", options.heldOutEvery, 1);
  whole("keepLast", options.keepLast, 1);
  whole("seed", options.seed, 0);
  whole("warmupSteps", options.schedule.warmupSteps, 0);
  const { lr, warmupSteps = 0 } = options.schedule;
  if (!(lr >= 0 && Number.isFinite(lr))) {
    throw new PlinthError(`lr: expected a learning rate of 0 or more, got ${lr}`, "correct lr");
  }
  if (warmupSteps > options.steps) {
    throw new PlinthError(
      `warmupSteps is ${warmupSteps}, more than the ${options.steps} steps of the run`,
      "lower warmupSteps or raise steps",
    );
  }
  if (!((options.clipNorm ?? 1) > 0)) {
    throw new PlinthError(`clipNorm: expected more than 0, got ${options.clipNorm}`, "leave it out or correct it");
  }
  const names = Object.keys(options.trainable);
  if (names.length === 0) throw new PlinthError("there is nothing to train", "name at least one trainable parameter");
  for (const name of names) {
    const { dtype } = options.trainable[name] as NdArray;
    if (dtype === "float32") continue;
    throw new PlinthError(`${name} is ${dtype}, but trained parameters are float32`, "convert it to float32 first");
  }
}

/**
 * Makes the run's folder, locks it, and clears what a killed process left. Gives the function that unlocks it. Throws
 * PlinthError when it cannot be written or another process has it.
 */
export async function openFolder(out: string): Promise<() => Promise<void>> {
  await makeFolder(out);
  await makeFolder(join(out, "checkpoints"));
  const unlock = await lockFolder(out);
  try {
    await removeTemporaries(out);
  } catch (error) {
    await unlock();
    throw explainWriteError(error, out);
  }
  return unlock;
}

/**
 * Finds where to begin in a folder: undefined for a new run. Throws PlinthError when the folder holds a run and `resume`
 * is not set, when the run is another one, or when it cannot be read.
 */
export async function findStart(
  options: TrainOptions,
  config: Readonly<Record<string, JsonValue>>,
  note: (text: string) => void,
): Promise<Start | undefined> {
  const { out } = options;
  const checkpoint = (await listCheckpoints(out)).at(-1);
  if (options.resume !== true) {
    const done = checkpoint === undefined ? await findModel(out) : `a run at step ${checkpoint.step}`;
    if (done === undefined) return undefined;
    throw new PlinthError(`${out} already holds ${done}`, "continue it with --resume, or choose another --out");
  }
  if (checkpoint === undefined) {
    note(`${out} has no checkpoint yet; starting from the beginning`);
    return undefined;
  }
  const state = await readRunState(checkpoint.folder);
  checkSameRun(state.config, config, out);
  const code = codeVersion();
  if (state.environment.code !== code) {
    note(`the run was started with Plinth ${String(state.environment.code)}, this is ${code}: bits may differ`);
  }
  return { checkpoint, state, parameters: await loadParameters(options, checkpoint) };
}

async function loadParameters(options: TrainOptions, { folder }: CheckpointInfo): Promise<Parameters> {
  const loaded = await options.files.load(folder);
  const parameters: Record<string, NdArray> = {};
  for (const [name, like] of Object.entries(options.trainable)) {
    const array = loaded[name];
    if (array === undefined || array.dtype !== like.dtype || !sameShape(array.shape, like.shape)) {
      throw new PlinthError(
        `${folder}: expected ${name} as ${like.dtype}${formatShape(like.shape)}, got ${array === undefined ? "nothing" : `${array.dtype}${formatShape(array.shape)}`}`,
        "resume with the same model, or remove this checkpoint's folder to resume from the one before",
      );
    }
    parameters[name] = ownCopy(array);
  }
  return parameters;
}

async function findModel(out: string): Promise<string | undefined> {
  for (const name of ["model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors"]) {
    const exists = await stat(join(out, name)).then(
      () => true,
      () => false,
    );
    if (exists) return `a model (${name})`;
  }
  return undefined;
}
