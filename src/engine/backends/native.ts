import { PlinthError } from "../../base/index.ts";
import { compileProgram } from "../compile/compile-program.ts";
import type { StepCost } from "../compile/cost.ts";
import { dtypeBytes, type HostArray } from "../ir/dtype.ts";
import type { Graph } from "../ir/graph.ts";
import { NdArray } from "../ir/nd-array.ts";
import { sizeOf } from "../ir/shape.ts";
import type { Backend, Executable, ExecutableStats, ProfileEntry } from "./backend.ts";
import { checkInputs } from "./check-inputs.ts";
import { loadNative, type NativeAddon, type NativeProgram } from "./load-native.ts";

/** The C++ engine. Throws what {@link loadNative} throws. */
export function createNativeBackend(addon: NativeAddon = loadNative()): Backend {
  return {
    name: "native",
    compile: (graph) => new NativeExecutable(addon, graph),
    setThreads: (count) => addon.setThreads(count),
    threads: () => addon.threads(),
  };
}

class NativeExecutable implements Executable {
  readonly stats: ExecutableStats;
  readonly #addon: NativeAddon;
  readonly #graph: Graph;
  readonly #program: NativeProgram;
  readonly #costs: readonly StepCost[];
  readonly #aliases: readonly (number | undefined)[];

  constructor(addon: NativeAddon, graph: Graph) {
    const { spec, stats, costs } = compileProgram(graph);
    this.#addon = addon;
    this.#graph = graph;
    this.stats = stats;
    this.#costs = costs;
    this.#program = addon.createProgram(spec);
    this.#aliases = spec.outputs.map((output) => output.aliasInput);
  }

  async run(inputs: readonly NdArray[]): Promise<NdArray[]> {
    checkInputs(this.#graph, inputs);
    const memory = inputs.map((array) => array.data);
    const outputs = this.#graph.outputs.map(({ shape, dtype }, i) => {
      const alias = this.#aliases[i];
      if (alias === undefined) return NdArray.on(this.#addon.allocate(byteLength(shape, dtype)), 0, dtype, shape);
      const given = memory[alias] as HostArray;
      // The very view where it fits: a cache has many, and every one more is work for the garbage collector.
      if (this.#graph.inputs[alias]?.dtype === dtype && given.length === sizeOf(shape)) {
        return new NdArray(dtype, shape, given);
      }
      return NdArray.on(given.buffer as ArrayBuffer, given.byteOffset, dtype, shape);
    });
    for (const index of this.#graph.donated) (inputs[index] as NdArray).donate();
    try {
      await this.#addon.run(
        this.#program,
        memory,
        outputs.map((array) => array.data),
      );
    } catch (error) {
      // Kernels refuse values: an id outside its table, memory that is not there.
      throw new PlinthError((error as Error).message, undefined, { cause: error });
    }
    return outputs;
  }

  startProfile(): void {
    this.#addon.profile(this.#program, true);
  }

  profile(): readonly ProfileEntry[] {
    const times = this.#addon.profileResult(this.#program);
    return times.map((entry, i) => ({ ...entry, ...(this.#costs[i] as StepCost) }));
  }
}

function byteLength(shape: readonly number[], dtype: NdArray["dtype"]): number {
  return shape.reduce((size, n) => size * n, dtypeBytes[dtype]);
}
