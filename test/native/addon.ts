/** Hand-made programs for tests of the native engine, without the compiler. */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { packageRoot } from "../../src/base/index.ts";
import { type Operand, type ProgramSpec, storageCode } from "../../src/engine/compile/program.ts";
import { type DType, dtypeBytes, dtypeCode, type HostArray } from "../../src/engine/ir/dtype.ts";
import { allocateHost } from "../../src/engine/ir/nd-array.ts";
import { rowMajorStrides, type Shape, sizeOf } from "../../src/engine/ir/shape.ts";

/** What native/KERNELS.md says that JavaScript sees. */
export interface Addon {
  isa(): string;
  cpuFeatures(): string[];
  setThreads(n: number): void;
  threads(): number;
  allocate(bytes: number): ArrayBuffer;
  mapFile(path: string): ArrayBuffer;
  kernels(): string[];
  opcodes(): Record<string, number>;
  createProgram(spec: ProgramSpec): object;
  run(program: object, inputs: ArrayBufferView[], outputs: ArrayBufferView[]): Promise<void>;
  profile(program: object, on: boolean): void;
  profileResult(program: object): {
    label: string;
    kernel: string;
    seconds: number;
    calls: number;
    lastStart: number;
    lastSeconds: number;
  }[];
  fmaPeak(seconds: number, threads: number): number;
  bandwidth(seconds: number, threads: number): number;
}

const require = createRequire(import.meta.url);
const needs: Record<string, readonly string[]> = {
  baseline: [],
  neon: ["neon"],
  avx2: ["avx2", "fma", "f16c"],
  avx512: ["avx512f", "avx512bw", "avx512vl", "avx512dq"],
  avx512bf16: ["avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_bf16"],
};

export function addonPath(isa: string): string {
  return join(packageRoot(), "build", "Release", `plinth-${isa}.node`);
}

/** Variants that are built and that this processor runs, the plainest first. */
export function addons(): Addon[] {
  const built = Object.keys(needs).filter((isa) => existsSync(addonPath(isa)));
  const first = built[0];
  if (first === undefined) throw new Error("the native engine is not built. Fix: npm run build:native");
  const features = new Set((require(addonPath(first)) as Addon).cpuFeatures());
  return built
    .filter((isa) => (needs[isa] as readonly string[]).every((feature) => features.has(feature)))
    .map((isa) => require(addonPath(isa)) as Addon);
}

/** A tensor for a program: memory plus the window that a kernel sees of it. */
export interface Value {
  readonly dtype: DType;
  readonly shape: Shape;
  readonly data: HostArray;
  /** Default row-major. */
  readonly strides?: readonly number[];
  /** Elements before the window's first. */
  readonly offset?: number;
}

export function value(dtype: DType, shape: Shape, data: ArrayLike<number>): Value {
  const array = allocateHost(dtype, data.length);
  array.set(data);
  return { dtype, shape, data: array };
}

/** A spec with one instruction that reads `inputs` and writes row-major outputs of the given types. */
export function specOf(
  kernel: string,
  inputs: readonly Value[],
  outputs: readonly { dtype: DType; shape: Shape }[],
  attrs: { ints?: readonly number[]; floats?: readonly number[] } = {},
): ProgramSpec {
  const operand = (storage: number, index: number, v: Omit<Value, "data">): Operand => ({
    storage,
    index,
    byteOffset: (v.offset ?? 0) * dtypeBytes[v.dtype],
    dtype: dtypeCode[v.dtype],
    shape: v.shape,
    strides: v.strides ?? rowMajorStrides(v.shape),
  });
  return {
    arenaBytes: 0,
    inputs: inputs.map((v) => ({ bytes: v.data.byteLength })),
    outputs: outputs.map((v) => ({ bytes: sizeOf(v.shape) * dtypeBytes[v.dtype] })),
    constants: [],
    instructions: [
      {
        kernel,
        inputs: inputs.map((v, i) => operand(storageCode.input, i, v)),
        outputs: outputs.map((v, i) => operand(storageCode.output, i, v)),
        ints: attrs.ints ?? [],
        floats: attrs.floats ?? [],
        workspaceOffset: 0,
        workspaceBytes: 0,
        label: `test.${kernel}`,
      },
    ],
  };
}

/** Runs one kernel once and returns its outputs. */
export async function runKernel(
  addon: Addon,
  kernel: string,
  inputs: readonly Value[],
  outputs: readonly { dtype: DType; shape: Shape }[],
  attrs: { ints?: readonly number[]; floats?: readonly number[] } = {},
): Promise<HostArray[]> {
  const program = addon.createProgram(specOf(kernel, inputs, outputs, attrs));
  // Not zero beforehand, so that what a kernel leaves out shows.
  const results = outputs.map((v) => {
    const array = allocateHost(v.dtype, sizeOf(v.shape));
    new Uint8Array(array.buffer).fill(0x7b);
    return array;
  });
  await addon.run(
    program,
    inputs.map((v) => v.data),
    results,
  );
  return results;
}

/** A small seeded generator of test data in [-1, 1). */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
}

/** Calls fn with each multi-index of the shape, in row-major order. */
export function forEachIndex(shape: Shape, fn: (index: readonly number[], flat: number) => void): void {
  const index = shape.map(() => 0);
  for (let flat = 0; flat < sizeOf(shape); flat++) {
    fn(index, flat);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index[axis] = (index[axis] as number) + 1;
      if ((index[axis] as number) < (shape[axis] as number)) break;
      index[axis] = 0;
    }
  }
}

export function dot(a: readonly number[], b: readonly number[]): number {
  return a.reduce((sum, x, i) => sum + x * (b[i] as number), 0);
}

export function bfloat16(x: number): number {
  const view = new DataView(new ArrayBuffer(4));
  view.setFloat32(0, x);
  const bits = view.getUint32(0);
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

export function fromBfloat16(bits: number): number {
  const view = new DataView(new ArrayBuffer(4));
  view.setUint32(0, bits << 16);
  return view.getFloat32(0);
}

export function fromFloat16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
}
