import { loadNative } from "../src/engine/backends/load-native.ts";
import { storageCode } from "../src/engine/compile/program.ts";
import { type DType, dtypeBytes, dtypeCode, type HostArray } from "../src/engine/ir/dtype.ts";
import { rowMajorStrides, sizeOf } from "../src/engine/ir/shape.ts";

/** Memory that a kernel reads or writes; `strides` (default row-major) say how it walks it. */
export interface KernelOperand {
  readonly data: HostArray;
  readonly dtype: "float32" | "bfloat16";
  readonly shape: readonly number[];
  readonly strides?: readonly number[];
}

export interface KernelCall {
  readonly kernel: string;
  readonly inputs: readonly KernelOperand[];
  readonly outputs: readonly KernelOperand[];
  readonly ints: readonly number[];
  readonly floats?: readonly number[];
  readonly workspaceBytes?: number;
}

/** An operand in the engine's memory. `element` gives the values as they are stored; zeros without it. */
export function kernelOperand(
  shape: readonly number[],
  dtype: KernelOperand["dtype"],
  element?: (index: number) => number,
): KernelOperand {
  const buffer = loadNative().allocate(sizeOf(shape) * dtypeBytes[dtype]);
  const data = dtype === "float32" ? new Float32Array(buffer) : new Uint16Array(buffer);
  if (element !== undefined) for (let i = 0; i < data.length; i++) data[i] = element(i);
  return { data, dtype, shape };
}

/** Seconds of a call of the kernel alone: programs of nothing but this call, as often as the caller says. */
export function kernelTimer(call: KernelCall): (repeats: number) => Promise<number> {
  const addon = loadNative();
  const { kernel, inputs, outputs, ints, floats = [], workspaceBytes = 0 } = call;
  const operands = (storage: number, list: readonly KernelOperand[]) =>
    list.map(({ dtype, shape, strides }, index) => ({
      storage,
      index,
      byteOffset: 0,
      dtype: dtypeCode[dtype satisfies DType],
      shape,
      strides: strides ?? rowMajorStrides(shape),
    }));
  const instruction = {
    kernel,
    inputs: operands(storageCode.input, inputs),
    outputs: operands(storageCode.output, outputs),
    ints,
    floats,
    workspaceOffset: 0,
    workspaceBytes,
    label: kernel,
  };
  const bytes = (list: readonly KernelOperand[]) => list.map(({ data }) => ({ bytes: data.byteLength }));
  const [from, to] = [inputs, outputs].map((list) => list.map(({ data }) => data)) as [HostArray[], HostArray[]];
  const programs = new Map<number, ReturnType<typeof addon.createProgram>>();
  return async (repeats) => {
    const program =
      programs.get(repeats) ??
      addon.createProgram({
        arenaBytes: workspaceBytes,
        inputs: bytes(inputs),
        outputs: bytes(outputs),
        constants: [],
        instructions: Array.from({ length: repeats }, () => instruction),
      });
    programs.set(repeats, program);
    const start = performance.now();
    await addon.run(program, from, to);
    return (performance.now() - start) / 1000 / repeats;
  };
}
