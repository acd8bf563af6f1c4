import { PlinthError } from "../../base/index.ts";
import type { Backend } from "./backend.ts";
import { NativeMissingError } from "./load-native.ts";
import { createNativeBackend } from "./native.ts";
import { referenceBackend } from "./reference.ts";

export type { Backend, Executable, ExecutableStats, ProfileEntry } from "./backend.ts";

/** Names accepted by {@link createBackend}. */
export const backendNames = ["native", "reference"] as const;
export type BackendName = (typeof backendNames)[number];

let native: Backend | undefined;
let chosen: Backend | undefined;

/**
 * A backend by name. `native` is the C++ engine (one per process); `reference` is the float64 oracle, slow and exact.
 * Throws PlinthError when the native engine is not built or the name is unknown.
 */
export function createBackend(name: BackendName): Backend {
  if (name === "native") {
    native ??= createNativeBackend();
    return native;
  }
  if (name === "reference") return referenceBackend;
  throw new PlinthError(`backend "${String(name)}" does not exist`, `use one of ${backendNames.join(", ")}`);
}

/** The native engine; where it does not load, the reference backend, after one line of warning on standard error. */
export function defaultBackend(): Backend {
  if (chosen === undefined) {
    try {
      chosen = createBackend("native");
    } catch (error) {
      // A wrong setting (PLINTH_ISA, PLINTH_THREADS) must not silently become a slow run.
      if (!(error instanceof NativeMissingError)) throw error;
      process.stderr.write(`plinth: ${error.message} Running on the slow reference backend.\n`);
      chosen = referenceBackend;
    }
  }
  return chosen;
}
