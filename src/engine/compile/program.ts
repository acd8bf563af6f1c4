/**
 * The program format handed to the native runner, once, at compile time (`native/program.cc` reads it). Plain data:
 * every operand says where its memory is and how to walk it, so a kernel needs to know nothing of graphs.
 */
export interface ProgramSpec {
  /** Bytes of the arena that holds intermediates; allocated once per program, 64-byte aligned. */
  readonly arenaBytes: number;
  readonly inputs: readonly BufferSpec[];
  readonly outputs: readonly OutputSpec[];
  /** Row-major constant data referenced by operands of storage "constant". */
  readonly constants: readonly ArrayBufferView[];
  readonly instructions: readonly Instruction[];
}

export interface BufferSpec {
  readonly bytes: number;
}

export interface OutputSpec extends BufferSpec {
  /** The output lives in this donated input's memory; absent: in memory of its own. */
  readonly aliasInput?: number;
}

/** `storage` is one of {@link storageCode}; `index` counts within it (0 for the arena); `byteOffset` to element 0. */
export interface Operand {
  readonly storage: number;
  readonly index: number;
  readonly byteOffset: number;
  readonly dtype: number;
  readonly shape: readonly number[];
  /** In elements; 0 on broadcast axes. */
  readonly strides: readonly number[];
}

export const storageCode = { arena: 0, input: 1, output: 2, constant: 3 } as const;

export interface Instruction {
  /** Name in `native/KERNELS.md`. */
  readonly kernel: string;
  readonly inputs: readonly Operand[];
  readonly outputs: readonly Operand[];
  readonly ints: readonly number[];
  readonly floats: readonly number[];
  /** Scratch in the arena; bytes 0 when the kernel needs none. */
  readonly workspaceOffset: number;
  readonly workspaceBytes: number;
  /** Scope and op, for profiles and error messages. */
  readonly label: string;
}
