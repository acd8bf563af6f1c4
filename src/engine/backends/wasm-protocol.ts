import type { KernelTimes } from "./backend.ts";
import type { OutputBuffer, WasmEngine } from "./wasm-engine.ts";

/** From the backend to its worker, handled in order. `program` is a number of the backend's choice. */
export type WasmRequest =
  | { readonly kind: "create"; readonly id: number; readonly program: number; readonly image: Uint8Array }
  | ({ readonly kind: "run"; readonly id: number; readonly program: number } & RunArguments)
  | { readonly kind: "profile"; readonly program: number }
  | { readonly kind: "release"; readonly program: number };

interface RunArguments {
  readonly inputs: readonly Uint8Array[];
  readonly outputs: readonly OutputBuffer[];
}

/** The answer to the request of that id: outputs of a run (and times, once profiling was asked for), or what went wrong. */
export type WasmReply =
  | {
      readonly id: number;
      readonly outputs: readonly Uint8Array<ArrayBuffer>[];
      readonly profile?: readonly KernelTimes[];
    }
  | { readonly id: number; readonly error: string };

/** Answers requests; the worker of any platform is this behind its message port. */
export class WasmServer {
  readonly #engine: WasmEngine;
  readonly #programs = new Map<number, number>();
  readonly #profiled = new Set<number>();

  constructor(engine: WasmEngine) {
    this.#engine = engine;
  }

  handle(request: WasmRequest): WasmReply | undefined {
    if (request.kind === "create" || request.kind === "run") {
      try {
        return this.#answer(request);
      } catch (error) {
        return { id: request.id, error: (error as Error).message };
      }
    }
    const program = this.#programs.get(request.program);
    if (program === undefined) return undefined;
    if (request.kind === "profile") {
      this.#profiled.add(program);
      this.#engine.startProfile(program);
    } else {
      this.#programs.delete(request.program);
      this.#profiled.delete(program);
      this.#engine.releaseProgram(program);
    }
    return undefined;
  }

  #answer(request: WasmRequest & { kind: "create" | "run" }): WasmReply {
    const { id } = request;
    if (request.kind === "create") {
      this.#programs.set(request.program, this.#engine.createProgram(request.image));
      return { id, outputs: [] };
    }
    const program = this.#programs.get(request.program);
    if (program === undefined) throw new Error("this program could not be created");
    const outputs = this.#engine.run(program, request.inputs, request.outputs);
    return this.#profiled.has(program) ? { id, outputs, profile: this.#engine.profile(program) } : { id, outputs };
  }
}
