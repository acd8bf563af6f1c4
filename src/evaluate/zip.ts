import { inflateRawSync } from "node:zlib";
import { PlinthError } from "../base/index.ts";

/**
 * Files of a zip archive (PKWARE APPNOTE 6.3: stored or deflated, no encryption, no zip64), by name.
 * Throws PlinthError when it is none or is damaged.
 */
export function readZip(archive: Buffer, path: string): Map<string, () => Buffer> {
  const damaged = (what: string) => new PlinthError(`${path}: ${what}`, "download the file again");
  // the end record is 22 bytes and a comment of at most 65535
  let end = archive.length - 22;
  while (end >= 0 && archive.readUInt32LE(end) !== 0x06054b50) end = end > archive.length - 65557 ? end - 1 : -1;
  if (end < 0) throw damaged("not a zip archive");
  const count = archive.readUInt16LE(end + 10);
  let at = archive.readUInt32LE(end + 16);
  const files = new Map<string, () => Buffer>();
  for (let i = 0; i < count; i++) {
    if (at + 46 > archive.length || archive.readUInt32LE(at) !== 0x02014b50) throw damaged("damaged zip directory");
    const method = archive.readUInt16LE(at + 10);
    const size = archive.readUInt32LE(at + 20);
    const nameLength = archive.readUInt16LE(at + 28);
    const offset = archive.readUInt32LE(at + 42);
    const name = archive.toString("utf8", at + 46, at + 46 + nameLength);
    at += 46 + nameLength + archive.readUInt16LE(at + 30) + archive.readUInt16LE(at + 32);
    if (name.endsWith("/")) continue;
    files.set(name, () => {
      if (offset + 30 > archive.length || archive.readUInt32LE(offset) !== 0x04034b50)
        throw damaged(`${name} is damaged`);
      const start = offset + 30 + archive.readUInt16LE(offset + 26) + archive.readUInt16LE(offset + 28);
      const data = archive.subarray(start, start + size);
      if (data.length !== size || (method !== 0 && method !== 8))
        throw damaged(`${name} is damaged or of an unknown kind`);
      try {
        return method === 0 ? data : inflateRawSync(data);
      } catch (error) {
        throw damaged(`${name} is damaged (${(error as Error).message})`);
      }
    });
  }
  return files;
}
