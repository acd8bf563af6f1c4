import { PlinthError } from "../../base/index.ts";

/**
 * What unpickled data is made of. Lists and tuples are arrays, dicts (also OrderedDict) maps; `T` is what the reader's own
 * globals and persistent ids make.
 */
export type PickleValue<T> =
  | null
  | boolean
  | number
  | string
  | PickleValue<T>[]
  | Map<string | number | boolean | null, PickleValue<T>>
  | PickleGlobal<T>
  | T;

/** A name that a pickle may mention. */
export class PickleGlobal<T> {
  readonly name: string;
  /** What calling it gives; absent where it may only be mentioned. Throws an Error saying what is wrong with the arguments. */
  readonly call: ((args: readonly PickleValue<T>[]) => PickleValue<T>) | undefined;

  constructor(name: string, call?: (args: readonly PickleValue<T>[]) => PickleValue<T>) {
    this.name = name;
    this.call = call;
  }
}

export interface UnpickleOptions<T> {
  /** Stands for the file in errors. */
  readonly path: string;
  /** All that the pickle may name, as `module.name`. */
  readonly globals: ReadonlyMap<string, PickleGlobal<T>>;
  /** What a persistent id stands for. Throws an Error saying what is wrong with it. */
  readonly persistent: (id: PickleValue<T>) => PickleValue<T>;
}

/** A state dict takes some 25 instructions and 200 bytes a tensor: room for 80 000 of them. */
const maxBytes = 2 ** 26;
const maxInstructions = 2 ** 21;

const again = "the file is damaged or incomplete; download it again";
const convert =
  "if you trust the file, convert it where it was made: load it with torch, take the state dict, save it with safetensors";

/** Opcodes (Python's pickletools) that data needs, by byte. All others are refused. */
const op = {
  mark: 0x28, // (
  emptyTuple: 0x29, // )
  stop: 0x2e, // .
  pop: 0x30, // 0
  popMark: 0x31, // 1
  binFloat: 0x47, // G
  binInt: 0x4a, // J
  binInt1: 0x4b, // K
  binInt2: 0x4d, // M
  none: 0x4e, // N
  binPersistentId: 0x51, // Q
  reduce: 0x52, // R
  binString: 0x54, // T
  shortBinString: 0x55, // U
  binUnicode: 0x58, // X
  emptyList: 0x5d, // ]
  append: 0x61, // a
  build: 0x62, // b
  global: 0x63, // c
  appends: 0x65, // e
  binGet: 0x68, // h
  longBinGet: 0x6a, // j
  binPut: 0x71, // q
  longBinPut: 0x72, // r
  setItem: 0x73, // s
  tuple: 0x74, // t
  setItems: 0x75, // u
  emptyDict: 0x7d, // }
  protocol: 0x80,
  tuple1: 0x85,
  tuple2: 0x86,
  tuple3: 0x87,
  newTrue: 0x88,
  newFalse: 0x89,
  long1: 0x8a,
  shortBinUnicode: 0x8c,
  binUnicode8: 0x8d,
  stackGlobal: 0x93,
  memoize: 0x94,
  frame: 0x95,
} as const;

/**
 * Reads a pickle (protocols 2 to 5) as data. It executes nothing: a pickle is a program that may name any function of
 * Python and call it, and here it can name only `globals`, which are functions of this program. Anything else is refused
 * by name before the rest is read. Time and memory are bounded by the size of the pickle: at most 64 MiB and 2 million
 * instructions. Throws PlinthError naming the file and what it tried.
 * Source: Lib/pickletools.py of CPython.
 */
export function unpickle<T extends object>(bytes: Uint8Array, options: UnpickleOptions<T>): PickleValue<T> {
  return new Unpickler(bytes, options).run();
}

class Unpickler<T extends object> {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #options: UnpickleOptions<T>;
  readonly #stack: PickleValue<T>[] = [];
  /** Heights of the stack at each open mark. */
  readonly #marks: number[] = [];
  readonly #memo = new Map<number, PickleValue<T>>();
  #at = 0;

  constructor(bytes: Uint8Array, options: UnpickleOptions<T>) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#options = options;
  }

  run(): PickleValue<T> {
    if (this.#bytes.length > maxBytes) {
      this.#fail(`a pickle of ${this.#bytes.length} bytes (the limit is ${maxBytes})`, convert);
    }
    for (let count = 0; count < maxInstructions; count++) {
      const code = this.#unsigned(1);
      if (code === op.stop) return this.#pop();
      const value = this.#step(code);
      if (value !== undefined) this.#stack.push(value);
    }
    return this.#fail(`a pickle of more than ${maxInstructions} instructions`, convert);
  }

  /** Executes an instruction; gives what it puts on the stack, if anything. */
  #step(code: number): PickleValue<T> | undefined {
    switch (code) {
      case op.protocol: {
        const version = this.#unsigned(1);
        if (version < 2 || version > 5) this.#fail(`pickle protocol ${version}, expected 2 to 5`, convert);
        return undefined;
      }
      case op.frame:
        this.#take(8);
        return undefined;
      case op.mark:
        this.#marks.push(this.#stack.length);
        return undefined;
      case op.pop:
        this.#pop();
        return undefined;
      case op.popMark:
        this.#popToMark();
        return undefined;
      case op.none:
        return null;
      case op.newTrue:
        return true;
      case op.newFalse:
        return false;
      case op.binInt:
        return this.#view.getInt32(this.#take(4), true);
      case op.binInt1:
        return this.#unsigned(1);
      case op.binInt2:
        return this.#unsigned(2);
      case op.long1:
        return this.#long(this.#unsigned(1));
      case op.binFloat:
        return this.#view.getFloat64(this.#take(8));
      case op.binUnicode:
      case op.binString:
        return this.#text(this.#unsigned(4));
      case op.shortBinUnicode:
      case op.shortBinString:
        return this.#text(this.#unsigned(1));
      case op.binUnicode8:
        return this.#text(this.#length8());
      case op.emptyList:
      case op.emptyTuple:
        return [];
      case op.emptyDict:
        return new Map();
      case op.tuple:
        return this.#popToMark();
      case op.tuple1:
      case op.tuple2:
      case op.tuple3:
        return this.#popMany(code - op.tuple1 + 1);
      case op.append:
        return this.#append(this.#popMany(1));
      case op.appends:
        return this.#append(this.#popToMark());
      case op.setItem:
        return this.#setItems(this.#popMany(2));
      case op.setItems:
        return this.#setItems(this.#popToMark());
      case op.binPut:
        this.#memo.set(this.#unsigned(1), this.#top());
        return undefined;
      case op.longBinPut:
        this.#memo.set(this.#unsigned(4), this.#top());
        return undefined;
      case op.memoize:
        this.#memo.set(this.#memo.size, this.#top());
        return undefined;
      case op.binGet:
        return this.#recall(this.#unsigned(1));
      case op.longBinGet:
        return this.#recall(this.#unsigned(4));
      case op.global:
        return this.#global(this.#line(), this.#line());
      case op.stackGlobal: {
        const [module, name] = this.#popMany(2);
        return this.#global(module, name);
      }
      case op.reduce:
        return this.#call();
      case op.build:
        return this.#build();
      case op.binPersistentId:
        return this.#attempt(() => this.#options.persistent(this.#pop()));
      default:
        return this.#fail(
          `the pickle has the instruction 0x${code.toString(16).padStart(2, "0")} at byte ${this.#at - 1}, which data of weights does not need`,
          convert,
        );
    }
  }

  #global(module: unknown, name: unknown): PickleGlobal<T> {
    if (typeof module !== "string" || typeof name !== "string") this.#damaged("a global without a name");
    const full = `${module}.${name}`;
    const known = this.#options.globals.get(full);
    if (known === undefined) {
      this.#fail(
        `the pickle names ${JSON.stringify(full)}, which is not part of weights; nothing of it was executed`,
        "do not load this file with a tool that executes pickles unless you trust who made it; " +
          "use a checkpoint in safetensors, or a plain state dict of tensors",
      );
    }
    return known;
  }

  #call(): PickleValue<T> {
    const [callee, args] = this.#popMany(2);
    if (!(callee instanceof PickleGlobal) || !Array.isArray(args))
      return this.#damaged("a call of what is no function");
    const { name, call } = callee;
    if (call === undefined) return this.#fail(`the pickle calls ${name}, which may only be mentioned`, convert);
    return this.#attempt(() => call(args));
  }

  /** Attributes set on an OrderedDict (`_metadata` of a state dict) are let go; other objects have none. */
  #build(): undefined {
    this.#pop();
    if (!(this.#top() instanceof Map)) this.#fail("the pickle sets attributes of an object", convert);
  }

  #append(items: readonly PickleValue<T>[]): undefined {
    const list = this.#top();
    if (!Array.isArray(list)) return this.#damaged("items for what is no list");
    for (const item of items) list.push(item);
  }

  #setItems(items: readonly PickleValue<T>[]): undefined {
    const map = this.#top();
    if (!(map instanceof Map) || items.length % 2 !== 0) return this.#damaged("items for what is no dict");
    for (let i = 0; i < items.length; i += 2) {
      const key = items[i] as PickleValue<T>;
      if (typeof key === "object" && key !== null)
        return this.#fail("a dict has a key that is no name or number", convert);
      map.set(key, items[i + 1] as PickleValue<T>);
    }
  }

  #recall(index: number): PickleValue<T> {
    const value = this.#memo.get(index);
    if (value === undefined) return this.#damaged(`nothing was remembered as ${index}`);
    return value;
  }

  #top(): PickleValue<T> {
    if (this.#stack.length <= (this.#marks.at(-1) ?? 0)) this.#damaged("the stack is empty");
    return this.#stack.at(-1) as PickleValue<T>;
  }

  #pop(): PickleValue<T> {
    const value = this.#top();
    this.#stack.pop();
    return value;
  }

  #popMany(count: number): PickleValue<T>[] {
    if (this.#stack.length - count < (this.#marks.at(-1) ?? 0)) this.#damaged("the stack is empty");
    return this.#stack.splice(this.#stack.length - count, count);
  }

  #popToMark(): PickleValue<T>[] {
    const mark = this.#marks.pop();
    if (mark === undefined) return this.#damaged("no mark is open");
    return this.#stack.splice(mark);
  }

  /** Moves on by `count` bytes and gives where they begin. */
  #take(count: number): number {
    const start = this.#at;
    if (start + count > this.#bytes.length) this.#damaged("it ends in the middle of an instruction");
    this.#at = start + count;
    return start;
  }

  #unsigned(bytes: 1 | 2 | 4): number {
    const at = this.#take(bytes);
    return bytes === 1
      ? this.#view.getUint8(at)
      : bytes === 2
        ? this.#view.getUint16(at, true)
        : this.#view.getUint32(at, true);
  }

  #length8(): number {
    const length = this.#view.getBigUint64(this.#take(8), true);
    return length > BigInt(maxBytes) ? this.#damaged("a text that is longer than the pickle") : Number(length);
  }

  /** A little-endian integer of any width; data has none beyond the safe ones. */
  #long(width: number): number {
    const at = this.#take(width);
    let value = 0n;
    for (let i = Math.min(width, 16); i > 0; i--) value = value * 256n + BigInt(this.#bytes[at + i - 1] as number);
    const number = Number(BigInt.asIntN(8 * Math.min(width, 16), value));
    if (width > 16 || !Number.isSafeInteger(number)) this.#fail("the pickle has a number beyond 53 bits", convert);
    return number;
  }

  #text(length: number): string {
    const start = this.#take(length);
    return Buffer.from(this.#bytes.buffer, this.#bytes.byteOffset + start, length).toString("utf8");
  }

  #line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#at);
    if (end < 0 || end - this.#at > 4096) this.#damaged("a name without an end");
    const text = this.#text(end - this.#at);
    this.#at = end + 1;
    return text;
  }

  #attempt<R>(make: () => R): R {
    try {
      return make();
    } catch (error) {
      if (error instanceof PlinthError) throw error;
      return this.#fail(`the pickle does not describe tensors: ${(error as Error).message}`, again);
    }
  }

  #damaged(what: string): never {
    return this.#fail(`damaged pickle at byte ${this.#at}: ${what}`, again);
  }

  #fail(problem: string, fix: string): never {
    throw new PlinthError(`${this.#options.path}: ${problem}`, fix);
  }
}
