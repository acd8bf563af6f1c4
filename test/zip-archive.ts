import { crc32, deflateRawSync } from "node:zlib";

export interface ZipOptions {
  readonly deflate?: boolean;
  /** Sizes and places in zip64 records, as archives over 4 GiB have them. */
  readonly zip64?: boolean;
  /** What the directory says of every file's size, when not the truth. */
  readonly claimedSize?: number;
}

/** A zip archive of these files. */
export function zipArchive(files: readonly (readonly [name: string, content: Uint8Array])[], options: ZipOptions = {}) {
  const { deflate = false, zip64 = false } = options;
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  const add = (part: Buffer): void => {
    parts.push(part);
    at += part.length;
  };
  for (const [name, content] of files) {
    const data = deflate ? deflateRawSync(content) : Buffer.from(content);
    const size = options.claimedSize ?? content.length;
    const offset = at;
    const head = Buffer.alloc(26);
    head.writeUInt16LE(20, 0);
    head.writeUInt16LE(deflate ? 8 : 0, 4);
    head.writeUInt32LE(crc32(content), 10);
    head.writeUInt32LE(zip64 ? 0xffffffff : data.length, 14);
    head.writeUInt32LE(zip64 ? 0xffffffff : size, 18);
    head.writeUInt16LE(Buffer.byteLength(name), 22);
    add(Buffer.concat([Buffer.from("PK\x03\x04", "latin1"), head, Buffer.from(name), data]));
    const extra = Buffer.alloc(zip64 ? 36 : 0);
    if (zip64) {
      extra.writeUInt16LE(0x5455, 0); // another field before it
      extra.writeUInt16LE(4, 2);
      extra.writeUInt16LE(1, 8);
      extra.writeUInt16LE(24, 10);
      for (const [i, value] of [size, data.length, offset].entries()) extra.writeBigUInt64LE(BigInt(value), 12 + 8 * i);
    }
    const entry = Buffer.alloc(46);
    entry.write("PK\x01\x02", 0, "latin1");
    entry.writeUInt16LE(20, 4);
    head.copy(entry, 6);
    entry.writeUInt16LE(extra.length, 30);
    entry.writeUInt32LE(zip64 ? 0xffffffff : offset, 42);
    directory.push(Buffer.concat([entry, Buffer.from(name), extra]));
  }
  const start = at;
  const list = Buffer.concat(directory);
  add(list);
  if (zip64) {
    const record = Buffer.alloc(76);
    record.write("PK\x06\x06", 0, "latin1");
    record.writeBigUInt64LE(44n, 4);
    for (const place of [24, 32]) record.writeBigUInt64LE(BigInt(files.length), place);
    record.writeBigUInt64LE(BigInt(list.length), 40);
    record.writeBigUInt64LE(BigInt(start), 48);
    record.write("PK\x06\x07", 56, "latin1");
    record.writeBigUInt64LE(BigInt(at), 64);
    record.writeUInt32LE(1, 72);
    add(record);
  }
  const end = Buffer.alloc(22);
  end.write("PK\x05\x06", 0, "latin1");
  for (const place of [8, 10]) end.writeUInt16LE(zip64 ? 0xffff : files.length, place);
  end.writeUInt32LE(list.length, 12);
  end.writeUInt32LE(zip64 ? 0xffffffff : start, 16);
  return Buffer.concat([...parts, end]);
}
