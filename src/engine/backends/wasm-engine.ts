/**
 * The WebAssembly engine (`native/wasm/module.cc`) inside one thread: programs in, arrays in, arrays out, all at once. No
 * import but of types, so that it runs in any worker; `wasm.ts` is the backend on top of it.
 */
import type { KernelTimes } from "./backend.ts";

/** The part of the WebAssembly API that is used, which the type libraries of Node leave out. */
interface WebAssemblyApi {
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => WasmModule;
  readonly Instance: new (module: WasmModule, imports: object) => { readonly exports: unknown };
}
export interface WasmModule {
  readonly wasmModule: unique symbol;
}
export const { Module, Instance } = (globalThis as unknown as { WebAssembly: WebAssemblyApi }).WebAssembly;

/** What the module exports. Addresses are 32 bits wide and come as signed numbers. */
interface Exports {
  readonly memory: { readonly buffer: ArrayBuffer };
  readonly __stack_pointer: { value: number };
  _initialize(): void;
  allocate(bytes: number): number;
  release(address: number): void;
  createProgram(image: number, bytes: number): number;
  releaseProgram(program: number): void;
  run(program: number, buffers: number): void;
  profile(program: number, on: number): void;
  profileResult(program: number): number;
  kernels(): number;
  resultText(): number;
}

/** What a program asks of its caller: the size of each output, and the input whose memory it takes, if any. */
export interface OutputBuffer {
  readonly bytes: number;
  readonly aliasInput?: number;
}

/** Thrown by the engine's own checks: a message for the user, behind the label of the instruction that failed. */
export class WasmEngineError extends Error {}

export class WasmEngine {
  readonly #exports: Exports;

  constructor(module: WasmModule) {
    const missing = (): never => {
      throw new WasmEngineError("the WebAssembly engine called the system");
    };
    const imports = {
      plinth: {
        fail: (address: number, length: number): never => {
          throw new WasmEngineError(this.#text(address, length));
        },
      },
      wasi_snapshot_preview1: {
        clock_time_get: (_clock: number, _precision: bigint, address: number): number => {
          const nanoseconds = BigInt(Math.round(performance.now() * 1e6));
          new DataView(this.#exports.memory.buffer).setBigUint64(address >>> 0, nanoseconds, true);
          return 0;
        },
        // Only the C library's own abort would write, and there is nowhere to write to.
        fd_close: missing,
        fd_seek: missing,
        fd_write: missing,
      },
    };
    this.#exports = new Instance(module, imports).exports as Exports;
    this.#exports._initialize();
  }

  /** Bytes that the engine has taken so far. They are reused, but never given back. */
  get memoryBytes(): number {
    return this.#exports.memory.buffer.byteLength;
  }

  kernels(): string[] {
    const size = this.#exports.kernels();
    return this.#text(this.#exports.resultText(), size).trim().split("\n").sort();
  }

  /** Checks a program of `encodeProgram` and keeps it. Throws WasmEngineError as the native engine does. */
  createProgram(image: Uint8Array): number {
    return this.#guard(() => {
      const address = this.#place(image);
      const program = this.#exports.createProgram(address, image.byteLength);
      this.#exports.release(address);
      return program;
    });
  }

  releaseProgram(program: number): void {
    this.#exports.releaseProgram(program);
  }

  /** Runs a program on copies of the inputs; the outputs are in memory of their own. */
  run(program: number, inputs: readonly Uint8Array[], outputs: readonly OutputBuffer[]): Uint8Array<ArrayBuffer>[] {
    const owned: number[] = [];
    try {
      return this.#guard(() => {
        const keep = (address: number): number => {
          owned.push(address);
          return address;
        };
        const placed = inputs.map((data) => keep(this.#place(data)));
        const results = outputs.map(({ bytes, aliasInput }) =>
          aliasInput === undefined ? keep(this.#allocate(bytes)) : (placed[aliasInput] as number),
        );
        const addresses = [...placed, ...results];
        const list = keep(this.#allocate(4 * addresses.length));
        new Uint32Array(this.#exports.memory.buffer, list, addresses.length).set(addresses);
        this.#exports.run(program, list);
        const memory = this.#exports.memory.buffer;
        return outputs.map(({ bytes }, i) => new Uint8Array(memory.slice(results[i], (results[i] as number) + bytes)));
      });
    } finally {
      for (const address of owned) this.#exports.release(address);
    }
  }

  startProfile(program: number): void {
    this.#exports.profile(program, 0);
    this.#exports.profile(program, 1);
  }

  profile(program: number): KernelTimes[] {
    const size = this.#exports.profileResult(program);
    const lines = this.#text(this.#exports.resultText(), size).split("\n").slice(0, -1);
    return lines.map((line) => {
      const [calls, nanoseconds, start, last, kernel = "", ...label] = line.split(" ");
      const [seconds, lastStart, lastSeconds] = [nanoseconds, start, last].map((text) => Number(text) / 1e9);
      return { label: label.join(" "), kernel, seconds, calls: Number(calls), lastStart, lastSeconds } as KernelTimes;
    });
  }

  /** An error leaves the engine in the middle of its frames: the stack is put back where it was. */
  #guard<T>(body: () => T): T {
    const stack = this.#exports.__stack_pointer.value;
    try {
      return body();
    } catch (error) {
      this.#exports.__stack_pointer.value = stack;
      throw error;
    }
  }

  #allocate(bytes: number): number {
    const address = this.#exports.allocate(bytes) >>> 0;
    if (address === 0) {
      throw new WasmEngineError(
        `out of memory: WebAssembly cannot allocate ${bytes} bytes more. Fix: use a smaller batch, context or model, or build the native engine.`,
      );
    }
    return address;
  }

  #place(data: Uint8Array): number {
    const address = this.#allocate(data.byteLength);
    new Uint8Array(this.#exports.memory.buffer, address, data.byteLength).set(data);
    return address;
  }

  #text(address: number, length: number): string {
    return new TextDecoder().decode(new Uint8Array(this.#exports.memory.buffer, address >>> 0, length));
  }
}
