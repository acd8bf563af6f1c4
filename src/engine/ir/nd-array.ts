import { type DType, dtypeBytes, type HostArray, type HostArrays } from "./dtype.ts";
import { formatShape, type Shape, sizeOf } from "./shape.ts";
import type { TensorType } from "./tensor.ts";

const hostArrayTypes = {
  float32: Float32Array,
  bfloat16: Uint16Array,
  float16: Uint16Array,
  int32: Int32Array,
  bool: Uint8Array,
} as const;

/**
 * A concrete array: a shape, an element type and row-major host memory. Ordinary garbage-collected value; nobody frees
 * it. An array donated to a program is consumed: its memory now belongs to the program's output.
 */
export class NdArray implements TensorType {
  readonly shape: Shape;
  readonly dtype: DType;
  #data: HostArray | undefined;

  constructor(dtype: DType, shape: Shape, data: HostArray) {
    if (data.length !== sizeOf(shape)) {
      throw new Error(
        `NdArray: expected ${sizeOf(shape)} elements for ${dtype}${formatShape(shape)}, got ${data.length}. Fix: pass data of that length.`,
      );
    }
    if (!(data instanceof hostArrayTypes[dtype])) {
      throw new Error(
        `NdArray: expected ${hostArrayTypes[dtype].name} for ${dtype}, got ${data.constructor.name}. Fix: convert the data.`,
      );
    }
    this.dtype = dtype;
    this.shape = shape;
    this.#data = data;
  }

  /** The memory itself, not a copy. Throws after donation. */
  get data(): HostArray {
    if (this.#data === undefined) {
      throw new Error(
        `NdArray: this ${this.dtype}${formatShape(this.shape)} was donated to a program and no longer has a value. Fix: use the program's output instead.`,
      );
    }
    return this.#data;
  }

  /** The memory, once it is on the host. Code meant for every backend reads this way. */
  async read(): Promise<HostArray> {
    return this.data;
  }

  get isDonated(): boolean {
    return this.#data === undefined;
  }

  /** Hands the memory over to the caller (a backend) and leaves this array without a value. */
  donate(): HostArray {
    const data = this.data;
    this.#data = undefined;
    return data;
  }

  get size(): number {
    return sizeOf(this.shape);
  }

  get byteLength(): number {
    return this.size * dtypeBytes[this.dtype];
  }

  /** The single value of a scalar or one-element float32, int32 or bool array. */
  item(): number {
    if (this.size !== 1) throw new Error(`item: expected one element, got ${formatShape(this.shape)}.`);
    return this.data[0] as number;
  }

  static float32(shape: Shape, data: Float32Array | readonly number[]): NdArray {
    return new NdArray("float32", shape, data instanceof Float32Array ? data : Float32Array.from(data));
  }

  static int32(shape: Shape, data: Int32Array | readonly number[]): NdArray {
    return new NdArray("int32", shape, data instanceof Int32Array ? data : Int32Array.from(data));
  }

  static zeros(dtype: DType, shape: Shape): NdArray {
    return new NdArray(dtype, shape, allocateHost(dtype, sizeOf(shape)));
  }

  /** An array on memory that exists already, `byteOffset` bytes into the buffer. Not a copy. */
  static on(buffer: ArrayBuffer, byteOffset: number, dtype: DType, shape: Shape): NdArray {
    return new NdArray(dtype, shape, new hostArrayTypes[dtype](buffer, byteOffset, sizeOf(shape)));
  }

  static scalar(value: number, dtype: "float32" | "int32" = "float32"): NdArray {
    return dtype === "float32" ? NdArray.float32([], [value]) : NdArray.int32([], [value]);
  }
}

/** Zero-filled host memory of an element type. */
export function allocateHost<D extends DType>(dtype: D, size: number): HostArrays[D] {
  return new hostArrayTypes[dtype](size) as HostArrays[D];
}
