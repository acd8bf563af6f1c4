import { PlinthError } from "../../base/index.ts";
import { compileProgram } from "../compile/compile-program.ts";
import type { StepCost } from "../compile/cost.ts";
import { formatBytes } from "../compile/memory-limit.ts";
import { encodeProgram } from "../compile/program-image.ts";
import type { Graph } from "../ir/graph.ts";
import { NdArray } from "../ir/nd-array.ts";
import type { Backend, Executable, ExecutableStats, KernelTimes, ProfileEntry } from "./backend.ts";
import { checkInputs } from "./check-inputs.ts";
import type { OutputBuffer } from "./wasm-engine.ts";
import { loadWasm, startThread, type WasmThread } from "./wasm-host.ts";
import type { WasmReply, WasmRequest } from "./wasm-protocol.ts";

/** Addresses have 32 bits; something is left for the stack, the heap's own and scratch. */
const memoryLimit = 2 ** 32 - 2 ** 27;
/** Longest stretch of copying between two turns of the event loop. */
const yieldEveryMs = 8;
const copyBytes = 1 << 22;

/**
 * The C++ engine as WebAssembly, on one thread of its own: for machines where no native binary can be built. Arrays are
 * copied to it and back. Throws WasmMissingError when the package has no wasm/plinth.wasm.
 */
export function createWasmBackend(): Backend {
  const client = new WasmClient();
  return { name: "wasm", compile: (graph) => new WasmExecutable(client, graph) };
}

type Answer = Extract<WasmReply, { outputs: unknown }>;

/** Requests to the thread, each a promise. The thread starts with the first one. */
class WasmClient {
  readonly #module = loadWasm();
  readonly #waiting = new Map<number, { resolve: (answer: Answer) => void; reject: (error: Error) => void }>();
  #thread: WasmThread | undefined;
  #requests = 0;
  #programs = 0;
  readonly #abandoned = new FinalizationRegistry<number>((program) => this.post({ kind: "release", program }));

  /** The program's number; it is dropped when `owner` is garbage. */
  createProgram(image: Uint8Array<ArrayBuffer>, owner: object): { program: number; created: Promise<unknown> } {
    const program = this.#programs++;
    this.#abandoned.register(owner, program);
    return { program, created: this.ask((id) => ({ kind: "create", id, program, image }), [image.buffer]) };
  }

  ask(request: (id: number) => WasmRequest, memory: readonly ArrayBuffer[]): Promise<Answer> {
    const id = this.#requests++;
    return new Promise((resolve, reject) => {
      this.post(request(id), memory);
      if (this.#waiting.size === 0) this.#thread?.ref();
      this.#waiting.set(id, { resolve, reject });
    });
  }

  post(request: WasmRequest, memory: readonly ArrayBuffer[] = []): void {
    this.#thread ??= startThread(
      this.#module,
      (reply) => this.#settle(reply),
      (error) => this.#fail(error),
    );
    this.#thread.post(request, memory);
  }

  #settle(reply: WasmReply): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (this.#waiting.size === 0) this.#thread?.unref();
    if ("error" in reply) waiting?.reject(new PlinthError(reply.error));
    else waiting?.resolve(reply);
  }

  /** The thread is gone, and its programs with it. */
  #fail(cause: Error): void {
    const error = new PlinthError(`the WebAssembly engine's thread ended: ${cause.message}`, undefined, { cause });
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}

class WasmExecutable implements Executable {
  readonly stats: ExecutableStats;
  readonly #client: WasmClient;
  readonly #graph: Graph;
  readonly #outputs: readonly OutputBuffer[];
  readonly #program: number;
  readonly #created: Promise<unknown>;
  readonly #costs: readonly StepCost[];
  #profile: readonly KernelTimes[] = [];

  constructor(client: WasmClient, graph: Graph) {
    const { spec, stats, costs } = compileProgram(graph);
    if (stats.peakBytes > memoryLimit) {
      throw new PlinthError(
        `out of memory before start: the program needs ${formatBytes(stats.peakBytes)} but WebAssembly addresses ${formatBytes(memoryLimit)}`,
        "use a smaller batch size, a shorter context or a smaller model, or build the native engine",
      );
    }
    this.stats = stats;
    this.#client = client;
    this.#graph = graph;
    this.#outputs = spec.outputs;
    this.#costs = costs;
    const { program, created } = client.createProgram(encodeProgram(spec), this);
    this.#program = program;
    this.#created = created;
    created.catch(() => {}); // every run says so
  }

  async run(inputs: readonly NdArray[]): Promise<NdArray[]> {
    checkInputs(this.#graph, inputs);
    const memory = inputs.map((array) => array.data);
    for (const index of this.#graph.donated) (inputs[index] as NdArray).donate();
    const copies = await copyAll(memory);
    await this.#created;
    const answer = await this.#client.ask(
      (id) => ({ kind: "run", id, program: this.#program, inputs: copies, outputs: this.#outputs }),
      copies.map((data) => data.buffer),
    );
    if (answer.profile !== undefined) this.#profile = answer.profile;
    return this.#graph.outputs.map(({ dtype, shape }, i) =>
      NdArray.on((answer.outputs[i] as Uint8Array<ArrayBuffer>).buffer, 0, dtype, shape),
    );
  }

  startProfile(): void {
    this.#profile = [];
    this.#client.post({ kind: "profile", program: this.#program });
  }

  profile(): readonly ProfileEntry[] {
    return this.#profile.map((entry, i) => ({ ...entry, ...(this.#costs[i] as StepCost) }));
  }
}

/** Copies to hand over, made in pieces so that the event loop keeps turning. */
async function copyAll(views: readonly ArrayBufferView[]): Promise<Uint8Array<ArrayBuffer>[]> {
  let rested = performance.now();
  const copies: Uint8Array<ArrayBuffer>[] = [];
  for (const view of views) {
    const copy = new Uint8Array(view.byteLength);
    for (let at = 0; at < copy.length; at += copyBytes) {
      copy.set(new Uint8Array(view.buffer, view.byteOffset + at, Math.min(copyBytes, copy.length - at)), at);
      if (performance.now() - rested > yieldEveryMs) {
        await new Promise((resolve) => setTimeout(resolve, 0));
        rested = performance.now();
      }
    }
    copies.push(copy);
  }
  return copies;
}
