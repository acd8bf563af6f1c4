import { PlinthError } from "../../base/index.ts";
import type { Backend } from "./backend.ts";
import { NativeMissingError } from "./load-native.ts";
import { createNativeBackend } from "./native.ts";
import { referenceBackend } from "./reference.ts";
import { createWasmBackend } from "./wasm.ts";
import { WasmMissingError } from "./wasm-host.ts";

export type { Backend, Executable, ExecutableStats, ProfileEntry } from "./backend.ts";

/** Names accepted by {@link createBackend}. */
export const backendNames = ["native", "wasm", "reference"] as const;
export type BackendName = (typeof backendNames)[number];

let native: Backend | undefined;
let wasm: Backend | undefined;
let chosen: Backend | undefined;

/**
 * A backend by name. `native` is the C++ engine (one per process); `wasm` is the same as WebAssembly, on one thread;
 * `reference` is the float64 oracle, slow and exact. Throws PlinthError when an engine is not built or the name is unknown.
 */
export function createBackend(name: BackendName): Backend {
  if (name === "native") {
    native ??= createNativeBackend();
    return native;
  }
  if (name === "wasm") {
    wasm ??= createWasmBackend();
    return wasm;
  }
  if (name === "reference") return referenceBackend;
  throw new PlinthError(`backend "${String(name)}" does not exist`, `use one of ${backendNames.join(", ")}`);
}

/**
 * The native engine; where it does not load, the WebAssembly one, and where that is missing too, the reference backend:
 * after one line of warning on standard error.
 */
export function defaultBackend(): Backend {
  if (chosen === undefined) {
    try {
      chosen = createBackend("native");
    } catch (error) {
      // A wrong setting (PLINTH_ISA, PLINTH_THREADS) must not silently become a slow run.
      if (!(error instanceof NativeMissingError)) throw error;
      chosen = fallback();
      const running =
        chosen.name === "wasm" ? "WebAssembly, on one thread and several times slower" : "the slow reference backend";
      process.stderr.write(`plinth: ${error.message} Running on ${running}.\n`);
    }
  }
  return chosen;
}

function fallback(): Backend {
  try {
    return createBackend("wasm");
  } catch (error) {
    if (!(error instanceof WasmMissingError)) throw error;
    return referenceBackend;
  }
}
