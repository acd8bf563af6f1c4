import { PlinthError, readZip, type ZipEntry } from "../../base/index.ts";
import { type Shape, sizeOf } from "../../engine/index.ts";
import { openBytes } from "./bytes.ts";
import { PickleGlobal, type PickleValue, unpickle } from "./pickle.ts";
import { type StoredTensor, type TensorFile, toNdArray } from "./safetensors.ts";
import { type SafetensorsDType, safetensorsDTypes } from "./safetensors-header.ts";

/** A run of elements in the archive that tensors are views of. */
interface Storage {
  readonly dtype: SafetensorsDType;
  readonly key: string;
  readonly length: number;
  readonly entry: ZipEntry;
}

/** A view of a storage; offset and strides in elements. */
class TorchTensor {
  readonly storage: Storage;
  readonly offset: number;
  readonly shape: Shape;
  readonly strides: readonly number[];

  constructor(storage: Storage, offset: number, shape: Shape, strides: readonly number[]) {
    this.storage = storage;
    this.offset = offset;
    this.shape = shape;
    this.strides = strides;
  }

  get isContiguous(): boolean {
    if (sizeOf(this.shape) === 0) return true;
    let expected = 1;
    for (let axis = this.shape.length - 1; axis >= 0; axis--) {
      const size = this.shape[axis] as number;
      if (size !== 1 && this.strides[axis] !== expected) return false;
      expected *= size;
    }
    return true;
  }
}
class StorageRef {
  readonly storage: Storage;
  constructor(storage: Storage) {
    this.storage = storage;
  }
}
type Value = PickleValue<TorchTensor | StorageRef>;

const storageDTypes: Readonly<Record<string, SafetensorsDType>> = {
  FloatStorage: "F32",
  DoubleStorage: "F64",
  HalfStorage: "F16",
  BFloat16Storage: "BF16",
  LongStorage: "I64",
  IntStorage: "I32",
  ShortStorage: "I16",
  CharStorage: "I8",
  ByteStorage: "U8",
  BoolStorage: "BOOL",
  ComplexFloatStorage: "C64",
};

/** Under which a training script may keep the state dict beside its own counters. */
const stateDictKeys = ["state_dict", "model_state_dict", "model", "module"];
const maxAxes = 64;
const again = "the file is damaged or incomplete; download it again";
const convert = "load it with torch where it was made, and save the state dict again with torch.save or safetensors";

/**
 * Opens a state dict that `torch.save` wrote (the zip format of PyTorch 1.6 and later: `.bin`, `.pt`, `.pth`): the names
 * and views of its tensors are read by a restricted unpickler that executes nothing ({@link unpickle}), the data is mapped
 * and read when asked for, copied only where a tensor is not contiguous. A checkpoint that has the state dict under
 * `state_dict`, `model_state_dict`, `model` or `module` gives that. Throws PlinthError naming the file when it is
 * truncated or damaged, describes tensors that it does not hold, or wants anything but tensors.
 */
export async function readTorchCheckpoint(path: string): Promise<TensorFile> {
  const fail = (problem: string, fix = again): never => {
    throw new PlinthError(`${path}: ${problem}`, fix);
  };
  const buffer = await openBytes(path);
  refuseOtherFormats(buffer, fail);
  const files = readZip(new DataView(buffer), path);
  const roots = [...files.keys()].filter((name) => /^[^/]+\/data\.pkl$/.test(name));
  const root = (roots[0] ?? "").replace(/data\.pkl$/, "");
  if (roots.length !== 1) return fail("not a PyTorch checkpoint (a zip archive without data.pkl)", convert);
  if (files.has(`${root}constants.pkl`)) return fail("a TorchScript program, not a state dict", convert);
  const order = files.get(`${root}byteorder`);
  if (order !== undefined && Buffer.from(order.bytes()).toString("utf8") !== "little") {
    return fail("written on a machine with another byte order", convert);
  }
  for (const [name, { isStored }] of files) {
    if (!isStored) return fail(`${name} is compressed, which torch.save never does`, convert);
  }

  const data = (files.get(`${root}data.pkl`) as ZipEntry).bytes();
  const tree = unpickle<TorchTensor | StorageRef>(data, {
    path,
    globals,
    persistent: (id) => storageOf(id, root, files),
  });
  const tensors = stateDict(tree, fail);
  checkSizes(tensors, buffer.byteLength, fail);

  const stored = (name: string): StoredTensor => {
    const tensor = tensors.get(name);
    if (tensor === undefined) {
      throw new PlinthError(
        `${path}: no tensor "${name}"`,
        "check the name; readTorchCheckpoint(path).entries lists them",
      );
    }
    return { dtype: tensor.storage.dtype, shape: tensor.shape, bytes: contiguousBytes(tensor) };
  };
  return {
    path,
    metadata: { format: "pt" },
    entries: new Map([...tensors].map(([name, { storage, shape }]) => [name, { dtype: storage.dtype, shape }])),
    stored,
    array: (name) => toNdArray(stored(name), name, path),
  };
}

/** The magic number that files from before the zip format begin with, as a pickle. */
const legacyMagic = Buffer.from("80028a0a6cfc9c46f9206aa85019", "hex");

function refuseOtherFormats(buffer: ArrayBuffer, fail: (problem: string, fix?: string) => never): void {
  const head = Buffer.from(buffer, 0, Math.min(buffer.byteLength, 512));
  const isTar = head.toString("latin1", 257, 262) === "ustar";
  if (isTar || head.subarray(0, legacyMagic.length).equals(legacyMagic)) {
    fail(
      `PyTorch's format from before 1.6 (${isTar ? "tar" : "bare pickle"}), which is not read`,
      "convert it with a newer PyTorch: torch.save(torch.load(path, weights_only=True), path)",
    );
  }
  if (head.toString("latin1", 0, 20) === "version https://git-") {
    fail("a pointer of Git LFS, not the file itself", "download the file itself (git lfs pull)");
  }
}

/** Everything a state dict names. */
const globals: ReadonlyMap<string, PickleGlobal<TorchTensor | StorageRef>> = new Map(
  [
    ...Object.keys(storageDTypes).map((name) => new PickleGlobal<TorchTensor | StorageRef>(`torch.${name}`)),
    new PickleGlobal<TorchTensor | StorageRef>("collections.OrderedDict", (args) => {
      if (args.length > 0) throw new Error("OrderedDict with arguments");
      return new Map();
    }),
    new PickleGlobal<TorchTensor | StorageRef>("torch._utils._rebuild_tensor_v2", rebuildTensor),
    new PickleGlobal<TorchTensor | StorageRef>("torch._utils._rebuild_parameter", ([tensor]) => {
      if (!(tensor instanceof TorchTensor)) throw new Error("a parameter without a tensor");
      return tensor;
    }),
  ].map((global) => [global.name, global]),
);

/** `("storage", type, key, device, length)`. */
function storageOf(id: Value, root: string, files: ReadonlyMap<string, ZipEntry>): StorageRef {
  const [kind, type, key, , length] = Array.isArray(id) ? id : [];
  if (kind !== "storage" || !(type instanceof PickleGlobal) || typeof key !== "string" || !isCount(length)) {
    throw new Error("a persistent id that is no storage");
  }
  const dtype = storageDTypes[type.name.replace(/^torch\./, "")];
  if (dtype === undefined) throw new Error(`${type.name} is no storage`);
  const entry = files.get(`${root}data/${key}`);
  if (entry === undefined) throw new Error(`storage ${JSON.stringify(key)} is not in the file`);
  const bytes = length * safetensorsDTypes[dtype];
  if (entry.size !== bytes) throw new Error(`storage ${key} should have ${bytes} bytes and has ${entry.size}`);
  return new StorageRef({ dtype, key, length, entry });
}

/** `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, backward_hooks, metadata?)`. */
function rebuildTensor([ref, offset, shape, strides]: readonly Value[]): TorchTensor {
  if (!(ref instanceof StorageRef) || !isCount(offset)) throw new Error("a tensor without storage");
  if (!isCounts(shape) || !isCounts(strides) || shape.length !== strides.length) {
    throw new Error("a tensor whose size and stride are no lists of numbers of the same length");
  }
  const { storage } = ref;
  const last = offset + shape.reduce((sum, size, axis) => sum + (size - 1) * (strides[axis] as number), 0);
  if (sizeOf(shape) > 0 ? last >= storage.length : offset > storage.length) {
    throw new Error(`a tensor reaches beyond its storage ${storage.key} of ${storage.length} elements`);
  }
  return new TorchTensor(storage, offset, [...shape], [...strides]);
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.length <= maxAxes && value.every(isCount);
}

function stateDict(
  tree: Value,
  fail: (problem: string, fix?: string) => never,
  depth = 0,
): ReadonlyMap<string, TorchTensor> {
  if (!(tree instanceof Map)) return fail("no state dict (a dict of tensors by name)", convert);
  const others = [...tree].filter(([, value]) => !(value instanceof TorchTensor)).map(([key]) => key);
  const inner = stateDictKeys.find((key) => tree.get(key) instanceof Map);
  if (others.length > 0 && inner !== undefined && depth === 0) return stateDict(tree.get(inner) as Value, fail, 1);
  if (others.length > 0) {
    const names = others.slice(0, 5).map((key) => JSON.stringify(key));
    return fail(`no state dict: ${names.join(", ")}${others.length > 5 ? ", ..." : ""} hold no tensor`, convert);
  }
  if (tree.size === 0) return fail("a state dict without tensors", convert);
  if ([...tree.keys()].some((key) => typeof key !== "string")) return fail("a tensor's name is no text", convert);
  return tree as ReadonlyMap<string, TorchTensor>;
}

/** Copies that are far more than the file holds come from views that repeat elements: a bomb, not weights. */
function checkSizes(
  tensors: ReadonlyMap<string, TorchTensor>,
  fileBytes: number,
  fail: (problem: string, fix?: string) => never,
): void {
  let bytes = 0;
  for (const [name, tensor] of tensors) {
    if (tensor.isContiguous) continue;
    bytes += sizeOf(tensor.shape) * safetensorsDTypes[tensor.storage.dtype];
    if (bytes > 2 * fileBytes + 2 ** 26) {
      fail(`tensor "${name}" repeats its elements to more than twice the size of the file`, convert);
    }
  }
}

/** The tensor's elements in row-major order: a view of the file, or a copy where they lie in another order. */
function contiguousBytes(tensor: TorchTensor): Uint8Array {
  const { storage, offset, shape, strides } = tensor;
  const width = safetensorsDTypes[storage.dtype];
  const bytes = storage.entry.bytes();
  const size = sizeOf(shape);
  if (size === 0 || tensor.isContiguous) return bytes.subarray(offset * width, (offset + size) * width);

  const aligned = bytes.byteOffset % width === 0 ? bytes : bytes.slice();
  const from = elements(aligned, width);
  const to = elements(new Uint8Array(size * width), width);
  const columns = shape.at(-1) as number;
  const step = strides.at(-1) as number;
  const index = shape.map(() => 0);
  for (let at = 0; at < size; ) {
    let source = index.reduce((sum, i, axis) => sum + i * (strides[axis] as number), offset);
    for (let end = at + columns; at < end; at++, source += step) to[at] = from[source] as never;
    for (let axis = shape.length - 2; axis >= 0; axis--) {
      index[axis] = (index[axis] as number) + 1;
      if ((index[axis] as number) < (shape[axis] as number)) break;
      index[axis] = 0;
    }
  }
  return new Uint8Array(to.buffer);
}

function elements(bytes: Uint8Array, width: 1 | 2 | 4 | 8): Uint8Array | Uint16Array | Uint32Array | BigUint64Array {
  const Elements = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array, 8: BigUint64Array }[width];
  return new Elements(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength / width);
}
