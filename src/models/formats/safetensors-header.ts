import { PlinthError } from "../../base/index.ts";
import { formatShape, type Shape, sizeOf } from "../../engine/index.ts";

/** Bytes per element of every element type of the format, in the library's order. */
export const safetensorsDTypes = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  F8_E8M0: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  C64: 8,
  F64: 8,
  I64: 8,
  U64: 8,
} as const;
export type SafetensorsDType = keyof typeof safetensorsDTypes;

/** Where a tensor lies, in bytes from the start of the data. */
export interface SafetensorsEntry {
  readonly dtype: SafetensorsDType;
  readonly shape: Shape;
  readonly begin: number;
  readonly end: number;
}

export interface SafetensorsHeader {
  readonly metadata: Readonly<Record<string, string>>;
  readonly entries: ReadonlyMap<string, SafetensorsEntry>;
  readonly dataStart: number;
}

/** The library refuses larger headers. */
const maxHeaderBytes = 100_000_000;
const again = "the file is damaged or incomplete; download or write it again";

/** Reads and checks the header of a whole file in memory. Throws PlinthError naming file, tensor and fix. */
export function parseHeader(buffer: ArrayBuffer, path: string): SafetensorsHeader {
  const fail = (problem: string, fix = again): never => {
    throw new PlinthError(`${path}: ${problem}`, fix);
  };
  const fileBytes = buffer.byteLength;
  if (fileBytes < 8) return fail(`truncated: ${fileBytes} bytes, expected at least 8`);
  const headerBytes = Number(new DataView(buffer).getBigUint64(0, true));
  if (headerBytes > maxHeaderBytes) {
    return fail(`header of ${headerBytes} bytes (the limit is ${maxHeaderBytes})`, "this is not a safetensors file");
  }
  const dataStart = 8 + headerBytes;
  if (dataStart > fileBytes) return fail(`truncated in the header: expected ${dataStart} bytes, got ${fileBytes}`);

  const json = parseJson(new Uint8Array(buffer, 8, headerBytes), fail);
  const { __metadata__: metadata = {}, ...rest } = json;
  if (!isObject(metadata) || Object.values(metadata).some((value) => typeof value !== "string")) {
    return fail("__metadata__ is not a map from text to text");
  }
  const entries = Object.entries(rest)
    .map(([name, value]) => [name, parseEntry(name, value, fail)] as const)
    .sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);

  let position = 0;
  for (const [name, { begin, end }] of entries) {
    if (begin !== position) {
      const what = begin < position ? "overlaps the tensor before it" : "leaves a gap before it";
      return fail(`tensor "${name}" ${what}: data_offsets start at ${begin}, expected ${position}`);
    }
    position = end;
  }
  const dataBytes = fileBytes - dataStart;
  if (dataBytes < position) {
    const name = entries.find(([, { end }]) => end > dataBytes)?.[0];
    return fail(`truncated in tensor "${name}": expected ${dataStart + position} bytes, got ${fileBytes}`);
  }
  if (dataBytes > position) {
    return fail(
      `${dataBytes - position} bytes after the last tensor: expected ${dataStart + position}, got ${fileBytes}`,
    );
  }
  return { metadata: metadata as Record<string, string>, entries: new Map(entries), dataStart };
}

function parseJson(bytes: Uint8Array, fail: (problem: string, fix?: string) => never): Record<string, unknown> {
  let text: string;
  let json: unknown;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    json = JSON.parse(text);
  } catch (error) {
    return fail(
      `the header is not JSON (${(error as Error).message})`,
      "this is not a safetensors file, or it is damaged",
    );
  }
  if (!isObject(json)) return fail("the header is not a JSON object", "this is not a safetensors file");
  const twice = firstDuplicate(topLevelKeys(text));
  if (twice !== undefined) return fail(`tensor "${twice}" is listed twice`);
  return json;
}

function parseEntry(name: string, value: unknown, fail: (problem: string) => never): SafetensorsEntry {
  if (!isObject(value)) return fail(`tensor "${name}": expected {dtype, shape, data_offsets}`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== "string" || !Object.hasOwn(safetensorsDTypes, dtype)) {
    return fail(`tensor "${name}": unknown dtype ${JSON.stringify(dtype)}`);
  }
  if (!isCounts(shape)) return fail(`tensor "${name}": shape ${JSON.stringify(shape)} is not a list of sizes`);
  if (!isCounts(offsets) || offsets.length !== 2 || (offsets[0] as number) > (offsets[1] as number)) {
    return fail(`tensor "${name}": data_offsets ${JSON.stringify(offsets)} are not [begin, end]`);
  }
  const [begin, end] = offsets as [number, number];
  const expected = sizeOf(shape) * safetensorsDTypes[dtype as SafetensorsDType];
  if (end - begin !== expected) {
    return fail(
      `tensor "${name}": ${dtype}${formatShape(shape)} takes ${expected} bytes, data_offsets hold ${end - begin}`,
    );
  }
  return { dtype: dtype as SafetensorsDType, shape, begin, end };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0);
}

/** Keys of the outermost object of valid JSON, duplicates included (JSON.parse silently keeps the last). */
function topLevelKeys(text: string): string[] {
  const keys: string[] = [];
  let depth = 0;
  for (const match of text.matchAll(/"(?:[^"\\]|\\.)*"(\s*:)?|[{}[\]]/g)) {
    const token = match[0];
    if (token === "{" || token === "[") depth++;
    else if (token === "}" || token === "]") depth--;
    else if (depth === 1 && match[1] !== undefined) keys.push(JSON.parse(token.slice(0, -match[1].length)) as string);
  }
  return keys;
}

function firstDuplicate(names: readonly string[]): string | undefined {
  const seen = new Set<string>();
  return names.find((name) => seen.size === seen.add(name).size);
}
