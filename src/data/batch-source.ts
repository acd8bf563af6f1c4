import { PlinthError } from "../base/index.ts";
import type { Batch } from "./batch.ts";
import type { PackingReport } from "./packing.ts";

export type JsonValue = null | boolean | number | string | readonly JsonValue[] | { readonly [key: string]: JsonValue };

/** An endless stream of batches that can be continued exactly from a saved state. */
export interface BatchSource {
  next(): Promise<Batch>;
  /** Small JSON: where the stream stands. */
  state(): JsonValue;
  /** Continues as if the stream had just reached that state. Throws PlinthError when the state is of other data. */
  restore(state: JsonValue): void;
  /** What packing does to the documents; one entry per component of the mixture. Empty in contiguous mode. */
  readonly reports: readonly PackingReport[];
}

/** Identity of a stream of batches: a saved state fits only the same data cut the same way. */
export type Fingerprint = Readonly<Record<string, string | number>>;

/**
 * Batches of which each follows from its number, counted from 0: all that a state says is how many there have been, and what the
 * fingerprint is. `names`: what messages call its keys.
 */
export function countedBatches(
  fingerprint: Fingerprint,
  batch: (step: number) => Promise<Batch>,
  names: Readonly<Record<string, string>> = {},
): BatchSource {
  let step = 0;
  return {
    reports: [],
    next: () => batch(step++),
    state: () => ({ ...fingerprint, step }),
    restore(state) {
      checkFingerprint(state, fingerprint, names);
      step = (state as { step: number }).step;
    },
  };
}

/** Throws PlinthError naming what has changed since the state was saved. */
export function checkFingerprint(
  saved: JsonValue,
  expected: Fingerprint,
  names: Readonly<Record<string, string>> = {},
): void {
  const state = (typeof saved === "object" && saved !== null ? saved : {}) as Record<string, JsonValue>;
  for (const [key, value] of Object.entries(expected)) {
    const found = state[key];
    if (found === value) continue;
    throw new PlinthError(
      `cannot continue the data where the checkpoint left off: ${names[key] ?? key} changed (saved ${found}, now ${value})`,
      "resume with the same data and settings, or start a new run",
    );
  }
}
