import assert from "node:assert/strict";
import { test } from "node:test";
import { builtVariants, loadNative, type NativeAddon } from "../../src/engine/backends/load-native.ts";
import type { Instruction, Operand } from "../../src/engine/compile/program.ts";
import { type DType, dtypeBytes, dtypeCode, type HostArray } from "../../src/engine/ir/dtype.ts";
import { allocateHost } from "../../src/engine/ir/nd-array.ts";
import { rowMajorStrides, sizeOf } from "../../src/engine/ir/shape.ts";

/** An input: `data` in memory order; `shape` and `strides` (default row-major) say how the kernel walks it. */
export interface Value {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: HostArray;
  readonly strides?: readonly number[];
  readonly offset?: number;
}

export interface Call {
  readonly kernel: string;
  readonly inputs: readonly Value[];
  /** `inPlace`: index of the input whose memory the output takes. */
  readonly outputs: readonly { dtype: DType; shape: readonly number[]; inPlace?: number }[];
  readonly ints?: readonly number[];
  readonly floats?: readonly number[];
  readonly workspaceBytes?: number;
}

export function float32(shape: readonly number[], data: ArrayLike<number>): Value {
  return { dtype: "float32", shape, data: Float32Array.from(data) };
}
export function int32(shape: readonly number[], data: ArrayLike<number>): Value {
  return { dtype: "int32", shape, data: Int32Array.from(data) };
}

/** Numbers in [-1, 1) that look random, the same for the same seed. */
export function noise(size: number, seed = 1, scale = 1): Float32Array {
  let state = (seed * 2654435761) >>> 0;
  return Float32Array.from({ length: size }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 31 - 1) * scale;
  });
}
export function noisy(shape: readonly number[], seed = 1, scale = 1): Value {
  return float32(shape, noise(sizeOf(shape), seed, scale));
}

/** Values of a strided input in row-major order. */
export function rowMajor(x: Value): number[] {
  const strides = x.strides ?? rowMajorStrides(x.shape);
  const walk = (axis: number, offset: number): number[] =>
    axis === x.shape.length
      ? [x.data[offset] as number]
      : Array.from({ length: x.shape[axis] as number }, (_, i) =>
          walk(axis + 1, offset + i * (strides[axis] as number)),
        ).flat();
  return walk(0, x.offset ?? 0);
}

/** Runs one instruction as a program of its own. */
export async function runKernel(addon: NativeAddon, call: Call): Promise<HostArray[]> {
  const operand = (storage: number, index: number, value: Omit<Value, "data">): Operand => ({
    storage,
    index,
    byteOffset: (value.offset ?? 0) * dtypeBytes[value.dtype],
    dtype: dtypeCode[value.dtype],
    shape: value.shape,
    strides: value.strides ?? rowMajorStrides(value.shape),
  });
  const instruction: Instruction = {
    kernel: call.kernel,
    inputs: call.inputs.map((value, i) => operand(1, i, value)),
    outputs: call.outputs.map((value, i) => operand(2, i, value)),
    ints: call.ints ?? [],
    floats: call.floats ?? [],
    workspaceOffset: 0,
    workspaceBytes: call.workspaceBytes ?? 0,
    label: call.kernel,
  };
  const inputs = call.inputs.map((value) => value.data.slice());
  const outputs = call.outputs.map((value) =>
    value.inPlace === undefined
      ? allocateHost(value.dtype, sizeOf(value.shape)).fill(7)
      : (inputs[value.inPlace] as HostArray),
  );
  const program = addon.createProgram({
    arenaBytes: call.workspaceBytes ?? 0,
    inputs: inputs.map((data) => ({ bytes: data.byteLength })),
    outputs: call.outputs.map((value, i) => ({
      bytes: (outputs[i] as HostArray).byteLength,
      ...(value.inPlace === undefined ? {} : { aliasInput: value.inPlace }),
    })),
    constants: [],
    instructions: [instruction],
  });
  await addon.run(program, inputs, outputs);
  return outputs;
}

/** The instruction sets that are built and that this CPU can run. */
export function usableIsas(): string[] {
  return builtVariants().filter((isa) => {
    try {
      loadNative(isa);
      return true;
    } catch {
      return false;
    }
  });
}

/** A test per instruction set; `run` runs a call with 1, 2 and 3 threads and asserts that the bits are the same. */
export function kernelTest(
  name: string,
  body: (run: (call: Call) => Promise<HostArray[]>, addon: NativeAddon) => Promise<void>,
): void {
  for (const isa of usableIsas()) {
    test(`${name} (${isa})`, async () => {
      const addon = loadNative(isa);
      const run = async (call: Call): Promise<HostArray[]> => {
        addon.setThreads(1);
        const expected = await runKernel(addon, call);
        for (const threads of [2, 3]) {
          addon.setThreads(threads);
          const again = await runKernel(addon, call);
          for (const [i, data] of expected.entries()) {
            assert.ok(
              sameBits(data, again[i] as HostArray),
              `${call.kernel}: output ${i} differs with ${threads} threads`,
            );
          }
        }
        return expected;
      };
      await body(run, addon);
    });
  }
}

export function sameBits(a: HostArray, b: HostArray): boolean {
  return Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(Buffer.from(b.buffer, b.byteOffset, b.byteLength));
}

/** Largest |actual - expected| / max(1, |expected|) must be at most `tolerance`; NaN and infinities must match. */
export function assertClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance = 1e-5, what = ""): void {
  assert.equal(actual.length, expected.length, `${what}: length`);
  for (let i = 0; i < expected.length; i++) {
    const a = actual[i] as number;
    const e = expected[i] as number;
    if (Object.is(a, e) || a === e || (Number.isNaN(a) && Number.isNaN(e))) continue;
    const error = Math.abs(a - e) / Math.max(1, Math.abs(e));
    assert.ok(error <= tolerance, `${what}[${i}]: expected ${e}, got ${a} (error ${error}, allowed ${tolerance})`);
  }
}
