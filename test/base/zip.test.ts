import assert from "node:assert/strict";
import { test } from "node:test";
import { readZip } from "../../src/base/index.ts";
import { type ZipOptions, zipArchive } from "../zip-archive.ts";

const files = [
  ["a/text.txt", Buffer.from("some text, some text, some text")],
  ["empty", Buffer.alloc(0)],
  ["folder/", Buffer.alloc(0)],
  ["ünï", Buffer.from([1, 2, 3])],
] as const;

const kinds: Record<string, ZipOptions> = {
  stored: {},
  deflated: { deflate: true },
  "stored, zip64": { zip64: true },
  "deflated, zip64": { deflate: true, zip64: true },
};
for (const [name, options] of Object.entries(kinds)) {
  test(`${name}: names, sizes and contents`, () => {
    const read = readZip(zipArchive(files, options), "x.zip");
    assert.deepEqual([...read.keys()], ["a/text.txt", "empty", "ünï"]);
    for (const [name, content] of files.filter(([name]) => !name.endsWith("/"))) {
      const entry = read.get(name);
      assert.deepEqual(Buffer.from(entry?.bytes() ?? []), content);
      assert.deepEqual([entry?.size, entry?.isStored], [content.length, options.deflate !== true]);
    }
  });
}

test("a stored file is a view, and a comment at the end does no harm", () => {
  const archive = Buffer.concat([zipArchive(files), Buffer.from("a comment")]);
  assert.equal(readZip(archive, "x.zip").get("ünï")?.bytes().buffer, archive.buffer);
});

const rejects = (archive: Uint8Array, message: RegExp): void =>
  assert.throws(
    () => {
      for (const entry of readZip(archive, "x.zip").values()) entry.bytes();
    },
    (error: Error) => {
      assert.equal(error.name, "PlinthError");
      assert.match(error.message, /^x\.zip: .*\. Fix: .+\.$/);
      assert.match(error.message, message);
      return true;
    },
  );

test("an archive cut anywhere is refused", () => {
  for (const options of Object.values(kinds)) {
    const archive = zipArchive(files, options);
    for (let length = 0; length < archive.length; length++) rejects(archive.subarray(0, length), /x\.zip: /);
  }
});

test("a bomb is not inflated beyond the size it claims, nor beyond the limit", () => {
  const zeros: [string, Buffer][] = [["zeros", Buffer.alloc(1_000_000)]];
  rejects(zipArchive(zeros, { deflate: true, claimedSize: 1000 }), /zeros is damaged/);
  rejects(zipArchive(zeros, { deflate: true, claimedSize: 2 ** 31 }), /unpacks to 2147483648 bytes \(limit/);
  rejects(zipArchive(zeros, { deflate: true, zip64: true, claimedSize: 2 ** 50 }), /unpacks to 1125899906842624 bytes/);
});

test("a name that is listed twice, an unknown method, encryption", () => {
  rejects(zipArchive([...files, ["empty", Buffer.from("other")]]), /empty is listed twice/);
  const damaged = (place: number, value: number): Buffer => {
    const archive = zipArchive(files);
    archive[archive.indexOf("PK\x01\x02", 0, "latin1") + place] = value;
    return archive;
  };
  rejects(damaged(10, 99), /a\/text\.txt is packed by an unknown method \(99\)/);
  rejects(damaged(8, 1), /a\/text\.txt is encrypted/);
  rejects(damaged(45, 0x7f), /a\/text\.txt lies outside of the file/);
});
