import { PlinthError } from "../../base/index.ts";
import type { Backend, Executable, ExecutableStats } from "../backends/backend.ts";
import { defaultBackend } from "../backends/index.ts";
import type { Graph } from "../ir/graph.ts";
import { NdArray } from "../ir/nd-array.ts";
import type { Tensor, TensorType } from "../ir/tensor.ts";
import type { Tree } from "../tree.ts";
import { applyPrecision, type Precision } from "./precision.ts";
import { flattenArguments } from "./signature.ts";
import { simplify } from "./simplify.ts";
import { type Trace, trace } from "./trace.ts";

/** A tree type with every symbolic tensor replaced by a value: what a traced function's caller passes and gets. */
export type Concrete<T> = ReplaceTensors<T, NdArray>;
/** A tree type with every symbolic tensor replaced by its shape and element type. */
export type Specs<T> = ReplaceTensors<T, TensorType>;

// The recursive Tree is replaced as a whole: expanding it would never end.
type ReplaceTensors<T, With> = [Tree<Tensor>] extends [T]
  ? Tree<With>
  : T extends Tensor
    ? With
    : T extends object
      ? { [K in keyof T]: ReplaceTensors<T[K], With> }
      : T;
/** Results: numbers come back as scalars, because the traced function's numbers are promoted. */
export type ConcreteResult<T> = [Tree<Tensor>] extends [T]
  ? Tree<NdArray>
  : T extends Tensor | number
    ? NdArray
    : T extends object
      ? { [K in keyof T]: ConcreteResult<T[K]> }
      : T;

export interface JitOptions {
  /** Positions of arguments whose arrays are consumed: their memory is reused for the outputs. */
  readonly donate?: readonly number[];
  /** Default: the native engine, see `defaultBackend`. */
  readonly backend?: Backend;
  /** "bf16": products on bfloat16 operands, see `applyPrecision`. Default "f32". */
  readonly precision?: Precision;
  /** Shown in error messages; default is the function's own name. */
  readonly name?: string;
}

/** A function compiled once per input signature. Call it with trees of NdArray. */
export interface Jitted<A extends readonly unknown[], R> {
  (...args: { [K in keyof A]: Concrete<A[K]> }): Promise<ConcreteResult<R>>;
  /** Traces and compiles for shapes and element types (trees of `TensorType` or NdArray) without running. */
  compile(...specs: { [K in keyof A]: Specs<A[K]> }): Compiled<A, R>;
  /** Number of programs compiled so far: one per input signature, unless very many forced some out of the cache. */
  readonly programs: number;
}

/** One program: the function for one input signature. */
export interface Compiled<A extends readonly unknown[], R> {
  readonly stats: ExecutableStats;
  /** As traced and simplified; print it with `printGraph`. */
  readonly graph: Graph;
  readonly executable: Executable;
  run(...args: { [K in keyof A]: Concrete<A[K]> }): Promise<ConcreteResult<R>>;
}

/** Programs kept ready per function; the one unused for longest goes first. */
const maxPrograms = 64;

interface Program {
  readonly trace: Trace;
  readonly graph: Graph;
  readonly executable: Executable;
}

/**
 * Compiles a pure function over symbolic tensors. The first call with a new signature (tree structure, shapes, element
 * types and values of static leaves) traces and compiles; later calls with it only run. Calls do not block the event
 * loop. Throws PlinthError at arguments or results that are not arrays, and when the program cannot fit in memory.
 */
export function jit<A extends readonly unknown[], R>(fn: (...args: A) => R, options: JitOptions = {}): Jitted<A, R> {
  const name = options.name ?? (fn.name === "" ? "jit" : fn.name);
  const donate = options.donate ?? [];
  const programs = new Map<string, Program>();
  let compiled = 0;

  const prepare = <Leaf extends TensorType>(
    args: readonly unknown[],
    isLeaf: (value: unknown) => value is Leaf,
  ): { program: Program; leaves: readonly Leaf[]; signature: string } => {
    const { leaves, signature } = flattenArguments(args, isLeaf, name);
    let program = programs.get(signature);
    if (program !== undefined) {
      programs.delete(signature);
    } else {
      const traced = trace(fn, args, { name, donate, isLeaf, leaves });
      const simple = simplify(traced.graph);
      const precise = applyPrecision(simple, options.precision ?? "f32");
      const graph = precise === simple ? simple : simplify(precise);
      program = { trace: traced, graph, executable: (options.backend ?? defaultBackend()).compile(graph) };
      compiled++;
      if (programs.size >= maxPrograms) programs.delete(programs.keys().next().value as string);
    }
    programs.set(signature, program);
    return { program, leaves, signature };
  };

  const run = async (program: Program, leaves: readonly NdArray[]): Promise<unknown> => {
    checkDonation(program.graph, leaves, name);
    return program.trace.rebuild(await program.executable.run(leaves));
  };

  const jitted = async (...args: readonly unknown[]): Promise<unknown> => {
    const { program, leaves } = prepare(args, isNdArray);
    return run(program, leaves);
  };
  const compile = (...specs: readonly unknown[]): Compiled<A, R> => {
    const { program, signature } = prepare(specs, isTensorType);
    return {
      stats: program.executable.stats,
      graph: program.graph,
      executable: program.executable,
      run: async (...args: readonly unknown[]): Promise<ConcreteResult<R>> => {
        const given = flattenArguments(args, isNdArray, name);
        if (given.signature !== signature) {
          throw new PlinthError(
            `${name}: expected arguments ${signature}, got ${given.signature}`,
            "compile for these arguments, or call the jitted function itself, which compiles when it must",
          );
        }
        return (await run(program, given.leaves)) as ConcreteResult<R>;
      },
    };
  };
  return Object.defineProperty(Object.assign(jitted, { compile }), "programs", {
    get: () => compiled,
  }) as unknown as Jitted<A, R>;
}

function isNdArray(value: unknown): value is NdArray {
  return value instanceof NdArray;
}

function isTensorType(value: unknown): value is TensorType {
  if (typeof value !== "object" || value === null) return false;
  const { shape, dtype } = value as { shape?: unknown; dtype?: unknown };
  return Array.isArray(shape) && typeof dtype === "string";
}

/** A consumed array must not be read again, so it may appear in one place only. */
function checkDonation(graph: Graph, leaves: readonly NdArray[], name: string): void {
  if (graph.donated.size === 0) return;
  const memory = new Map<unknown, number>();
  leaves.forEach((leaf, i) => {
    // Reading `data` also rejects arrays that were consumed earlier.
    const data = leaf.data;
    if (data.length === 0) return;
    const earlier = memory.get(data);
    memory.set(data, i);
    if (earlier === undefined || !(graph.donated.has(i) || graph.donated.has(earlier))) return;
    throw new PlinthError(
      `${name}: ${graph.inputNames[earlier]} and ${graph.inputNames[i]} share memory and one of them is donated`,
      "copy one of the two arrays first",
    );
  });
}
