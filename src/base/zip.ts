import { inflateRawSync } from "node:zlib";
import { PlinthError } from "./error.ts";

/** A file of a zip archive. */
export interface ZipEntry {
  /** Bytes of the content. */
  readonly size: number;
  /** Whether the content lies in the archive as it is, so that `bytes` is a view and copies nothing. */
  readonly isStored: boolean;
  /** The content. Throws PlinthError when it is damaged or of a kind that is not read. */
  bytes(): Uint8Array;
}

const again = "download it again: the file is damaged or incomplete";
const signatures = { file: 0x04034b50, directory: 0x02014b50, end: 0x06054b50, end64: 0x06064b50, locator: 0x07064b50 };
/** What a 16 or 32 bit field holds when the value is in its zip64 counterpart. */
const [in64Short, in64] = [0xffff, 0xffffffff];
const maxInflatedBytes = 2 ** 30;

/**
 * The files of a zip archive by name (PKWARE APPNOTE 6.3: stored or deflated, zip64, no encryption, one disk). Only the
 * directory is read; a content is looked at when it is asked for, and never inflated beyond the size that the directory
 * gives (at most 1 GiB). Throws PlinthError when the bytes are no zip archive, are truncated, or list a name twice.
 */
export function readZip(archive: ArrayBufferView, path: string): Map<string, ZipEntry> {
  const fail = (what: string): never => {
    throw new PlinthError(`${path}: ${what}`, again);
  };
  /** A part of the archive; the whole may be larger than a typed array can be. */
  const view = (at: number, length: number, what: string): DataView => {
    if (at < 0 || at + length > archive.byteLength) fail(`${what} lies outside of the file`);
    return new DataView(archive.buffer, archive.byteOffset + at, length);
  };
  const bytesAt = (at: number, length: number, what: string): Uint8Array => {
    const { buffer, byteOffset } = view(at, length, what);
    return new Uint8Array(buffer, byteOffset, length);
  };

  const directory = findDirectory(archive.byteLength, view, fail);
  const files = new Map<string, ZipEntry>();
  let at = directory.start;
  for (let i = 0; i < directory.count; i++) {
    const head = view(at, 46, "the zip directory");
    if (head.getUint32(0, true) !== signatures.directory) fail("damaged zip directory");
    const [flags, method] = [head.getUint16(8, true), head.getUint16(10, true)];
    const [nameLength, extraLength] = [head.getUint16(28, true), head.getUint16(30, true)];
    const name = Buffer.from(bytesAt(at + 46, nameLength, "the zip directory")).toString("utf8");
    const extra = view(at + 46 + nameLength, extraLength, "the zip directory");
    const [size = 0, packed = 0, offset = 0] = widened(
      [head.getUint32(24, true), head.getUint32(20, true), head.getUint32(42, true)],
      extra,
      () => fail(`${name} is damaged`),
    );
    at += 46 + nameLength + extraLength + head.getUint16(32, true);
    if (name.endsWith("/")) continue;
    if (files.has(name)) fail(`${name} is listed twice`);

    const content = (): Uint8Array => {
      const local = view(offset, 30, name);
      if (local.getUint32(0, true) !== signatures.file) fail(`${name} is damaged`);
      if ((flags & 1) !== 0) fail(`${name} is encrypted`);
      const data = bytesAt(offset + 30 + local.getUint16(26, true) + local.getUint16(28, true), packed, name);
      if (method === 0) return packed === size ? data : fail(`${name} is damaged`);
      if (method !== 8) return fail(`${name} is packed by an unknown method (${method})`);
      if (size > maxInflatedBytes) return fail(`${name} says it unpacks to ${size} bytes (limit ${maxInflatedBytes})`);
      let inflated: Uint8Array;
      try {
        inflated = inflateRawSync(data, { maxOutputLength: Math.max(1, size) });
      } catch (error) {
        return fail(`${name} is damaged (${(error as Error).message})`);
      }
      return inflated.length === size ? inflated : fail(`${name} is damaged`);
    };
    files.set(name, { size, isStored: method === 0, bytes: content });
  }
  return files;
}

/** Where the list of files begins, and how long it is; by the end record, or zip64's where that says so. */
function findDirectory(
  length: number,
  view: (at: number, length: number, what: string) => DataView,
  fail: (what: string) => never,
): { count: number; start: number } {
  // The end record is 22 bytes and a comment of at most 65535.
  const tail = Math.min(length, 22 + 0xffff);
  const last = view(length - tail, tail, "the file");
  let end = tail - 22;
  while (end >= 0 && last.getUint32(end, true) !== signatures.end) end--;
  if (end < 0) return fail("not a zip archive, or truncated");
  const count = last.getUint16(end + 10, true);
  const start = last.getUint32(end + 16, true);
  if (count !== in64Short && start !== in64) return { count, start };

  const locatorAt = length - tail + end - 20;
  const locator = locatorAt < 0 ? undefined : view(locatorAt, 20, "the zip directory");
  if (locator?.getUint32(0, true) !== signatures.locator) return { count, start };
  const record = view(toSafe(locator.getBigUint64(8, true)), 56, "the zip directory");
  if (record.getUint32(0, true) !== signatures.end64) return fail("damaged zip directory");
  return { count: toSafe(record.getBigUint64(32, true)), start: toSafe(record.getBigUint64(48, true)) };
}

/** The values of 32 bit fields, those that did not fit from the zip64 part of the extra field, which has them in order. */
function widened(fields: readonly number[], extra: DataView, fail: () => never): number[] {
  if (!fields.includes(in64)) return [...fields];
  for (let at = 0; at + 4 <= extra.byteLength; at += 4 + extra.getUint16(at + 2, true)) {
    if (extra.getUint16(at, true) !== 1) continue;
    const end = at + 4 + extra.getUint16(at + 2, true);
    let from = at + 4;
    return fields.map((value) => {
      if (value !== in64) return value;
      if (from + 8 > end || end > extra.byteLength) return fail();
      from += 8;
      return toSafe(extra.getBigUint64(from - 8, true));
    });
  }
  return fail();
}

/** No file is longer than the safe integers: beyond them a place is outside of any file all the same. */
function toSafe(value: bigint): number {
  return value > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(value);
}
