import { randomBytes } from "node:crypto";
import { open, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { explainWriteError, makeFolder, PlinthError, readJson, syncFolder, writeJsonAtomic } from "../base/index.ts";
import type { JsonValue } from "../data/index.ts";
import { formatShape, type HostArray, NdArray, type Shape, sameShape } from "../engine/index.ts";
import { readSafetensors, writeSafetensors } from "../models/index.ts";
import type { SpikeState } from "./spike.ts";
import type { Slots } from "./step.ts";
import type { HeldOut } from "./types.ts";

/** Everything a run needs beside its arrays; `state.json`, the last file written into a checkpoint. */
export interface RunState {
  readonly format: 1;
  readonly step: number;
  /** What decides the result; must be equal when resuming. */
  readonly config: Readonly<Record<string, JsonValue>>;
  /** Code and machine, for the record; a difference is reported but allowed. */
  readonly environment: Readonly<Record<string, JsonValue>>;
  /** Position of the data after this step. */
  readonly data: JsonValue;
  readonly spike: SpikeState | null;
  /** Mean loss of the last step; null before the first. */
  readonly loss: number | null;
  readonly heldOut: HeldOut | null;
  readonly best: { readonly step: number; readonly bitsPerByte: number } | null;
  readonly tokens: number;
  readonly seconds: number;
}

export interface CheckpointInfo {
  readonly step: number;
  readonly folder: string;
}

const temporaryPrefix = ".tmp-";

/**
 * Writes `OUT/checkpoints/step-000123/` whole: all files into a temporary folder beside it, synced, the folder renamed,
 * its parent synced. A kill at any moment leaves either this checkpoint complete or no trace but a temporary folder,
 * which the next start removes. Throws PlinthError when the disk is full or the folder read-only; earlier checkpoints
 * stay as they were.
 */
export async function saveCheckpoint(
  out: string,
  state: RunState,
  slots: Slots,
  saveModel: (folder: string) => Promise<void>,
): Promise<CheckpointInfo> {
  const parent = join(out, "checkpoints");
  const name = `step-${String(state.step).padStart(6, "0")}`;
  const folder = join(parent, name);
  const temporary = join(parent, `${temporaryPrefix}${name}-${process.pid}-${randomBytes(4).toString("hex")}`);
  try {
    await makeFolder(temporary);
    await saveModel(temporary);
    const tensors = Object.entries(slots).flatMap(([slot, arrays]) =>
      Object.entries(arrays).map(([parameter, array]) => [`${slot}.${parameter}`, array] as const),
    );
    await writeSafetensors(join(temporary, "optimizer.safetensors"), tensors);
    await writeJsonAtomic(join(temporary, "state.json"), state);
    await syncFiles(temporary);
    // A checkpoint of this step can be left from a run that was resumed from an earlier one.
    await removeFolder(folder);
    await rename(temporary, folder);
    await syncFolder(parent);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
    throw explainWriteError(error, folder);
  }
  return { step: state.step, folder };
}

/** Complete checkpoints, oldest first. */
export async function listCheckpoints(out: string): Promise<CheckpointInfo[]> {
  const parent = join(out, "checkpoints");
  const names = await readdir(parent).catch(() => [] as string[]);
  return names
    .flatMap((name) => {
      const match = /^step-(\d+)$/.exec(name);
      return match === null ? [] : [{ step: Number(match[1]), folder: join(parent, name) }];
    })
    .sort((a, b) => a.step - b.step);
}

/** Removes what a killed process left half written or half deleted. */
export async function removeTemporaries(out: string): Promise<void> {
  const parent = join(out, "checkpoints");
  for (const name of await readdir(parent).catch(() => [] as string[])) {
    if (name.startsWith(temporaryPrefix)) await rm(join(parent, name), { recursive: true, force: true });
  }
}

/** Keeps the newest `keepLast` and the one of step `best`. */
export async function pruneCheckpoints(out: string, keepLast: number, best: number | undefined): Promise<void> {
  const all = await listCheckpoints(out);
  for (const { step, folder } of all.slice(0, Math.max(0, all.length - Math.max(1, keepLast)))) {
    if (step !== best) await removeFolder(folder);
  }
}

/** Reads a checkpoint's state. Throws PlinthError when it is missing or of another format. */
export async function readRunState(folder: string): Promise<RunState> {
  const path = join(folder, "state.json");
  const state = (await readJson(path)) as RunState;
  if (state?.format !== 1 || typeof state.step !== "number") {
    throw new PlinthError(
      `${path}: expected a checkpoint state of format 1, got format ${JSON.stringify(state?.format)}`,
      "resume with the version of Plinth that wrote it",
    );
  }
  return state;
}

/** Shapes of state arrays: slot name, then parameter name. */
export type SlotShapes = Readonly<Record<string, Readonly<Record<string, Shape>>>>;

/** Reads the optimiser's arrays. Throws PlinthError naming a missing or misshapen one. */
export async function readSlots(folder: string, shapes: SlotShapes): Promise<Slots> {
  const path = join(folder, "optimizer.safetensors");
  const file = await readSafetensors(path);
  const slots: Record<string, Record<string, NdArray>> = {};
  for (const [slot, parameters] of Object.entries(shapes)) {
    const arrays: Record<string, NdArray> = {};
    for (const [parameter, shape] of Object.entries(parameters)) {
      const name = `${slot}.${parameter}`;
      if (!file.entries.has(name)) throw damaged(path, `${name} is missing`);
      const array = file.array(name);
      if (!sameShape(array.shape, shape)) {
        throw damaged(path, `${name} expected ${formatShape(shape)}, got ${formatShape(array.shape)}`);
      }
      arrays[parameter] = ownCopy(array);
    }
    slots[slot] = arrays;
  }
  return slots;
}

/** A copy in memory of its own: file mappings must not be donated, and outlive nothing when a checkpoint is pruned. */
export function ownCopy(array: NdArray): NdArray {
  return new NdArray(array.dtype, array.shape, array.data.slice() as HostArray);
}

function damaged(path: string, what: string): PlinthError {
  return new PlinthError(`${path}: ${what}`, "remove this checkpoint's folder and resume from the one before");
}

async function syncFiles(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      await syncFiles(path);
      continue;
    }
    const file = await open(path, "r");
    try {
      await file.sync();
    } finally {
      await file.close();
    }
  }
  await syncFolder(folder);
}

/** Renamed out of sight first, so that a kill in the middle leaves no folder that looks complete. */
async function removeFolder(folder: string): Promise<void> {
  const hidden = join(folder, "..", `${temporaryPrefix}removed-${process.pid}-${randomBytes(4).toString("hex")}`);
  try {
    await rename(folder, hidden);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  await rm(hidden, { recursive: true, force: true });
}
