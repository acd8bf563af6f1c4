/** What the WebAssembly backend needs of its platform, for Node: the module's bytes and a thread. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { PlinthError, packageRoot } from "../../base/index.ts";
import { Module, type WasmModule } from "./wasm-engine.ts";
import type { WasmReply, WasmRequest } from "./wasm-protocol.ts";

/** Thrown where the package has no WebAssembly engine. */
export class WasmMissingError extends PlinthError {}

/** Compiles wasm/plinth.wasm. Throws WasmMissingError where it is not there or this Node cannot run it. */
export function loadWasm(): WasmModule {
  const path = join(packageRoot(), "wasm", "plinth.wasm");
  if (!existsSync(path)) {
    throw new WasmMissingError("the WebAssembly engine (wasm/plinth.wasm) is not built", "npm run build:wasm");
  }
  try {
    return new Module(new Uint8Array(readFileSync(path)));
  } catch (error) {
    throw new WasmMissingError(
      `the WebAssembly engine ${path} does not load (${(error as Error).message})`,
      "use a newer Node, or build it again: npm run build:wasm",
      { cause: error },
    );
  }
}

/** A thread that answers requests. It keeps the process alive only between `ref` and `unref`. */
export interface WasmThread {
  post(request: WasmRequest, memory: readonly ArrayBuffer[]): void;
  ref(): void;
  unref(): void;
}

export function startThread(
  module: WasmModule,
  onReply: (reply: WasmReply) => void,
  onFailure: (error: Error) => void,
): WasmThread {
  // The file beside this one, as it is now: .ts while developing, .js when compiled.
  const url = new URL(import.meta.url.replace(/wasm-host(\.[a-z]+)$/, "wasm-worker$1"));
  const worker = new Worker(url, { workerData: module, execArgv: [] });
  worker.on("message", onReply);
  worker.on("error", onFailure);
  worker.unref();
  return {
    post: (request, memory) => worker.postMessage(request, memory),
    ref: () => worker.ref(),
    unref: () => worker.unref(),
  };
}
