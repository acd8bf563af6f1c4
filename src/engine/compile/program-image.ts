import type { Operand, ProgramSpec } from "./program.ts";

/** "Plinth" in ASCII: the first word of every image. */
const firstWord = 0x506c696e7468;

/**
 * A program as bytes, for engines behind a boundary that objects do not cross (`native/program_image.cc` reads it). Words
 * of 8 bytes, little endian: numbers as float64 (whole numbers are exact to 2^53), texts and constants as their length and
 * the bytes, filled up to a whole word. In the order of {@link ProgramSpec}; lists begin with their count.
 */
export function encodeProgram(spec: ProgramSpec): Uint8Array<ArrayBuffer> {
  const writer = new ImageWriter();
  writer.number(firstWord);
  writer.number(spec.arenaBytes);
  writer.list(spec.inputs, ({ bytes }) => writer.number(bytes));
  writer.list(spec.outputs, ({ bytes, aliasInput }) => {
    writer.number(bytes);
    writer.number(aliasInput ?? -1);
  });
  writer.list(spec.constants, (data) => writer.bytes(data));
  writer.list(spec.instructions, (instruction) => {
    writer.text(instruction.kernel);
    writer.text(instruction.label);
    for (const operands of [instruction.inputs, instruction.outputs]) {
      writer.list(operands, (operand) => writeOperand(writer, operand));
    }
    for (const numbers of [instruction.ints, instruction.floats]) writer.list(numbers, (n) => writer.number(n));
    writer.number(instruction.workspaceOffset);
    writer.number(instruction.workspaceBytes);
  });
  return writer.finish();
}

function writeOperand(writer: ImageWriter, { storage, index, byteOffset, dtype, shape, strides }: Operand): void {
  for (const n of [storage, index, byteOffset, dtype, shape.length, ...shape, ...strides]) writer.number(n);
}

/** Words of 8 bytes in a buffer that grows. */
export class ImageWriter {
  #view = new DataView(new ArrayBuffer(1 << 12));
  #size = 0;

  number(value: number): void {
    this.#reserve(8);
    this.#view.setFloat64(this.#size, value, true);
    this.#size += 8;
  }

  list<T>(items: readonly T[], write: (item: T) => void): void {
    this.number(items.length);
    items.forEach(write);
  }

  text(text: string): void {
    this.bytes(new TextEncoder().encode(text));
  }

  bytes(data: ArrayBufferView): void {
    this.number(data.byteLength);
    const padded = Math.ceil(data.byteLength / 8) * 8;
    this.#reserve(padded);
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    new Uint8Array(this.#view.buffer, this.#size).set(bytes);
    this.#size += padded;
  }

  /** What has been written, in memory of its own. */
  finish(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.#view.buffer.slice(0, this.#size));
  }

  #reserve(bytes: number): void {
    if (this.#size + bytes <= this.#view.byteLength) return;
    const larger = new Uint8Array(Math.max(this.#view.byteLength * 2, this.#size + bytes));
    larger.set(new Uint8Array(this.#view.buffer));
    this.#view = new DataView(larger.buffer);
  }
}
