import type { Graph } from "../ir/graph.ts";
import type { NdArray } from "../ir/nd-array.ts";

/**
 * Where programs run. Narrow on purpose: a new device implements these two methods and inherits the contract suite.
 * Backends receive graphs already simplified by the shared passes.
 */
export interface Backend {
  readonly name: string;
  /** Plans a graph for this device. Synchronous; throws when the program cannot fit, naming the numbers. */
  compile(graph: Graph): Executable;
}

/** A graph made ready to run on one backend. */
export interface Executable {
  readonly stats: ExecutableStats;
  /**
   * Runs on the backend's own threads and never blocks the event loop. Inputs listed in `graph.donated` are consumed.
   * Results are the graph's outputs in order.
   */
  run(inputs: readonly NdArray[]): Promise<NdArray[]>;
}

/** What is known of a program before its first run. */
export interface ExecutableStats {
  /** Kernel calls per run. */
  readonly instructions: number;
  /** Bytes of planned intermediate memory. */
  readonly arenaBytes: number;
  /** Inputs, outputs, constants and arena together at the fullest moment. */
  readonly peakBytes: number;
  /** Floating-point operations of the matrix products and attention, per run (multiply and add count as two). */
  readonly flops: number;
}
