import type { FileHandle } from "node:fs/promises";
import { PlinthError, writeFileAtomic } from "../../base/index.ts";
import { type DType, type HostArray, NdArray, type Shape, sizeOf } from "../../engine/index.ts";
import { openBytes } from "./bytes.ts";
import { parseHeader, type SafetensorsDType, type SafetensorsEntry, safetensorsDTypes } from "./safetensors-header.ts";

/** A tensor as a file holds it, whatever its element type. */
export interface StoredTensor {
  readonly dtype: SafetensorsDType;
  readonly shape: Shape;
  readonly bytes: Uint8Array;
}

/** An open file of tensors, of whatever format. Nothing of the data is read before it is asked for. */
export interface TensorFile {
  readonly path: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** By name, in the order of the file. */
  readonly entries: ReadonlyMap<string, Omit<StoredTensor, "bytes">>;
  /**
   * The tensor as an array of the stored element type, on the file's memory (a private mapping: writing to it never
   * reaches the file). Throws PlinthError for a name that is not there and for element types the engine lacks.
   */
  array(name: string): NdArray;
  stored(name: string): StoredTensor;
}

/** An open safetensors file. */
export interface SafetensorsFile extends TensorFile {
  /** In the order of the data. */
  readonly entries: ReadonlyMap<string, SafetensorsEntry>;
}

const engineDTypes: Readonly<Partial<Record<SafetensorsDType, DType>>> = {
  F32: "float32",
  BF16: "bfloat16",
  F16: "float16",
  I32: "int32",
  BOOL: "bool",
};
const storedDTypes: Readonly<Record<DType, SafetensorsDType>> = {
  float32: "F32",
  bfloat16: "BF16",
  float16: "F16",
  int32: "I32",
  bool: "BOOL",
};

/**
 * Opens a safetensors file: checks the header strictly and maps the data into memory. Throws PlinthError naming the
 * file, the tensor and the fix when it is missing, truncated, damaged or inconsistent.
 * Source: https://huggingface.co/docs/safetensors (format).
 */
export async function readSafetensors(path: string): Promise<SafetensorsFile> {
  const buffer = await openBytes(path);
  const { metadata, entries, dataStart } = parseHeader(buffer, path);

  const stored = (name: string): StoredTensor => {
    const entry = entries.get(name);
    if (entry === undefined) {
      throw new PlinthError(`${path}: no tensor "${name}"`, "check the name; readSafetensors(path).entries lists them");
    }
    const bytes = new Uint8Array(buffer, dataStart + entry.begin, entry.end - entry.begin);
    return { dtype: entry.dtype, shape: entry.shape, bytes };
  };
  return { path, metadata, entries, stored, array: (name) => toNdArray(stored(name), name, path) };
}

/** Views stored bytes as an array of the engine; copies only where the file is not aligned to the element size. */
export function toNdArray(stored: StoredTensor, name: string, path: string): NdArray {
  const dtype = engineDTypes[stored.dtype];
  if (dtype === undefined) {
    throw new PlinthError(
      `${path}: tensor "${name}" has element type ${stored.dtype}, which the engine cannot compute with`,
      `convert it to one of ${Object.keys(engineDTypes).join(", ")}`,
    );
  }
  const elementBytes = safetensorsDTypes[stored.dtype];
  const aligned = stored.bytes.byteOffset % elementBytes === 0 ? stored.bytes : stored.bytes.slice();
  const { buffer, byteOffset } = aligned;
  const size = sizeOf(stored.shape);
  return new NdArray(dtype, stored.shape, viewAs(dtype, buffer as ArrayBuffer, byteOffset, size));
}

function viewAs(dtype: DType, buffer: ArrayBuffer, byteOffset: number, size: number): HostArray {
  switch (dtype) {
    case "float32":
      return new Float32Array(buffer, byteOffset, size);
    case "bfloat16":
    case "float16":
      return new Uint16Array(buffer, byteOffset, size);
    case "int32":
      return new Int32Array(buffer, byteOffset, size);
    case "bool":
      return new Uint8Array(buffer, byteOffset, size);
  }
}

export interface WriteSafetensorsOptions {
  /** Default `{format: "pt"}`, which other libraries expect. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Lay the tensors out in the order given, not in the Python library's (element type, then name). */
  readonly keepOrder?: boolean;
}

/**
 * Writes tensors in the layout of the Python library, so that a file read and written again has the same bytes. The
 * file appears whole or not at all (temporary file, sync, rename); tensors are streamed one at a time.
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<readonly [name: string, tensor: NdArray | StoredTensor]>,
  options: WriteSafetensorsOptions = {},
): Promise<void> {
  const ordered = [...tensors];
  if (options.keepOrder !== true) ordered.sort(([a, x], [b, y]) => rank(y) - rank(x) || compareBytes(a, b));
  const header = formatHeader(ordered, options.metadata ?? { format: "pt" }, path);
  await writeFileAtomic(path, async (file) => {
    await writeAll(file, header);
    for (const [, tensor] of ordered) await writeAll(file, await bytesOf(tensor));
  });
}

/** Element type and bytes a tensor takes in a file. */
export function storedType(tensor: NdArray | StoredTensor): { dtype: SafetensorsDType; byteLength: number } {
  if (tensor instanceof NdArray) return { dtype: storedDTypes[tensor.dtype], byteLength: tensor.byteLength };
  return { dtype: tensor.dtype, byteLength: tensor.bytes.byteLength };
}

function formatHeader(
  tensors: readonly (readonly [string, NdArray | StoredTensor])[],
  metadata: Readonly<Record<string, string>>,
  path: string,
): Uint8Array {
  const header = new Map<string, unknown>();
  if (Object.keys(metadata).length > 0) header.set("__metadata__", metadata);
  let offset = 0;
  for (const [name, tensor] of tensors) {
    if (header.has(name)) throw new PlinthError(`${path}: two tensors are called "${name}"`, "rename one of them");
    const { dtype, byteLength } = storedType(tensor);
    header.set(name, { dtype, shape: tensor.shape, data_offsets: [offset, offset + byteLength] });
    offset += byteLength;
  }
  // Not an object literal: integer-like names would move to the front.
  const json = [...header].map(([name, entry]) => `${JSON.stringify(name)}:${JSON.stringify(entry)}`).join(",");
  const text = Buffer.from(`{${json}}`, "utf8");
  const padded = Buffer.alloc(8 + Math.ceil(text.length / 8) * 8, " ");
  padded.writeBigUInt64LE(BigInt(padded.length - 8), 0);
  text.copy(padded, 8);
  return padded;
}

/** The library's alignment order: wide element types first. */
function rank(tensor: NdArray | StoredTensor): number {
  return Object.keys(safetensorsDTypes).indexOf(storedType(tensor).dtype);
}

/** Rust compares strings by their UTF-8 bytes. */
function compareBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a, "utf8"), Buffer.from(b, "utf8"));
}

async function bytesOf(tensor: NdArray | StoredTensor): Promise<Uint8Array> {
  if (!(tensor instanceof NdArray)) return tensor.bytes;
  const data = await tensor.read();
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  const chunkBytes = 2 ** 26;
  for (let done = 0; done < bytes.byteLength; ) {
    const { bytesWritten } = await file.write(bytes, done, Math.min(chunkBytes, bytes.byteLength - done));
    done += bytesWritten;
  }
}
