import type { StepCost } from "../compile/cost.ts";
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
  /** Size of the backend's thread pool, where it has one. May be changed only while nothing runs. */
  setThreads?(count: number): void;
  threads?(): number;
}

/** A graph made ready to run on one backend. */
export interface Executable {
  readonly stats: ExecutableStats;
  /**
   * Runs on the backend's own threads and never blocks the event loop. Inputs listed in `graph.donated` are consumed.
   * Results are the graph's outputs in order.
   */
  run(inputs: readonly NdArray[]): Promise<NdArray[]>;
  /** Times every kernel of the runs that follow, from zero. Absent where the backend cannot. */
  startProfile?(): void;
  /** Times since {@link startProfile}, one entry per kernel call of the program, in order. */
  profile?(): readonly ProfileEntry[];
}

/** Times of one kernel call of a program, as an engine measures them. */
export interface KernelTimes {
  /** Scope and op. */
  readonly label: string;
  readonly kernel: string;
  /** Of all calls. */
  readonly seconds: number;
  readonly calls: number;
  /** Of the last run: when the kernel began, in seconds from the run's first, and how long it took. */
  readonly lastStart: number;
  readonly lastSeconds: number;
}

/** Where a program spends its time: measured, and what the compiler knows of the call. */
export type ProfileEntry = KernelTimes & StepCost;

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
