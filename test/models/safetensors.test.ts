import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { NdArray } from "../../src/engine/index.ts";
import { readSafetensors, writeSafetensors } from "../../src/models/index.ts";
import { goldenDir } from "./support.ts";

let dir = "";
before(async () => {
  dir = await mkdtemp(join(tmpdir(), "plinth-safetensors-"));
});
after(() => rm(dir, { recursive: true, force: true }));

/** A file with this header and as many data bytes. */
async function fileWith(header: string | object, dataBytes: number): Promise<string> {
  const text = Buffer.from(typeof header === "string" ? header : JSON.stringify(header), "utf8");
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const path = join(dir, "made.safetensors");
  await writeFile(path, Buffer.concat([length, text, Buffer.alloc(dataBytes)]));
  return path;
}

async function rejects(path: string, message: RegExp): Promise<void> {
  await assert.rejects(readSafetensors(path), (error: Error) => {
    assert.equal(error.name, "PlinthError");
    assert.match(error.message, message);
    assert.match(error.message, /\. Fix: /);
    assert.ok(error.message.startsWith(path));
    return true;
  });
}

suite("reading what the Python library wrote", () => {
  test("values of every element type", async () => {
    const file = await readSafetensors(join(goldenDir, "dtypes.safetensors"));
    assert.deepEqual(file.metadata, { format: "pt" });
    assert.equal(file.entries.size, 10);
    assert.deepEqual([...file.array("b.f32").data], [1.5, -2, 3.25]);
    assert.deepEqual([...file.array("e.i32").data], [7, -7, 3]);
    assert.deepEqual([...file.array("f.bool").data], [1, 0, 1]);
    assert.equal(file.array("a.bf16").dtype, "bfloat16");
    assert.deepEqual([...file.array("a.bf16").data], [0x3f80, 0xbf00]);
    assert.deepEqual([...file.array("c.f16").data], [0x3400]);
    assert.deepEqual(file.array("scalar").shape, []);
    assert.deepEqual(file.array("empty").shape, [0, 4]);
    assert.deepEqual([...new BigInt64Array(file.stored("d.i64").bytes.slice().buffer)], [1n, -1n]);
  });

  test("an element type the engine lacks, and a name that is not there", async () => {
    const path = join(goldenDir, "dtypes.safetensors");
    const file = await readSafetensors(path);
    assert.throws(() => file.array("h.f64"), {
      message: `${path}: tensor "h.f64" has element type F64, which the engine cannot compute with. Fix: convert it to one of F32, BF16, F16, I32, BOOL.`,
    });
    assert.throws(() => file.array("nope"), /no tensor "nope"/);
  });

  test("written again in any order: the same bytes", async () => {
    const path = join(goldenDir, "dtypes.safetensors");
    const file = await readSafetensors(path);
    const copy = join(dir, "copy.safetensors");
    const names = [...file.entries.keys()].sort().reverse();
    await writeSafetensors(
      copy,
      names.map((name) => [name, file.stored(name)]),
    );
    assert.ok((await readFile(copy)).equals(await readFile(path)));
  });

  test("writing to an array never reaches the file", async () => {
    const path = join(dir, "mapped.safetensors");
    await writeSafetensors(path, [["x", NdArray.float32([2], [1, 2])]]);
    const before = await readFile(path);
    const array = (await readSafetensors(path)).array("x");
    array.data[0] = 9;
    assert.equal(array.data[0], 9);
    assert.ok((await readFile(path)).equals(before));
  });
});

suite("writing", () => {
  test("arrays come back", async () => {
    const path = join(dir, "back.safetensors");
    const x = NdArray.float32([2, 2], [1, -2, 3.5, 0]);
    const names = ["x", "1", 'ü"quoted"', "__proto__"];
    await writeSafetensors(
      path,
      names.map((name) => [name, x]),
      { metadata: {} },
    );
    const file = await readSafetensors(path);
    assert.deepEqual([...file.entries.keys()].sort(), [...names].sort());
    for (const name of names) assert.deepEqual([...file.array(name).data], [1, -2, 3.5, 0]);
  });

  test("two tensors of one name", async () => {
    const x = NdArray.float32([1], [1]);
    await assert.rejects(
      writeSafetensors(join(dir, "twice"), [
        ["x", x],
        ["x", x],
      ]),
      /two tensors are called "x"/,
    );
  });

  test("a folder that cannot be made", async () => {
    await writeFile(join(dir, "plain"), "");
    const write = writeSafetensors(join(dir, "plain", "x.safetensors"), [["x", NdArray.float32([1], [1])]]);
    await assert.rejects(write, { name: "PlinthError", message: /cannot write .*Fix: / });
  });
});

suite("damaged files", () => {
  const f32 = (shape: number[], data_offsets: number[]) => ({ dtype: "F32", shape, data_offsets });

  test("missing, a folder, empty", async () => {
    await rejects(join(dir, "nowhere.safetensors"), /no such file/);
    await rejects(dir, /not a file/);
    await writeFile(join(dir, "empty.safetensors"), "");
    await rejects(join(dir, "empty.safetensors"), /truncated: 0 bytes, expected at least 8/);
  });

  test("truncated at any byte", async () => {
    const whole = await readFile(join(goldenDir, "gpt2-f16-bare", "model.safetensors"));
    const path = join(dir, "cut.safetensors");
    for (const bytes of [7, 8, 100, 2000, whole.length - 1]) {
      await writeFile(path, whole);
      await truncate(path, bytes);
      await rejects(path, /truncated/);
    }
    await rejects(path, /truncated in tensor "wte.weight": expected \d+ bytes, got \d+/);
  });

  test("bytes after the end", async () => {
    await rejects(await fileWith({ x: f32([1], [0, 4]) }, 6), /2 bytes after the last tensor/);
  });

  test("not safetensors at all", async () => {
    const path = join(dir, "text.safetensors");
    await writeFile(path, "once upon a time, there was a model");
    await rejects(path, /header of \d+ bytes .*not a safetensors file/);
  });

  test("a header that is no JSON object", async () => {
    await rejects(await fileWith("{oops", 0), /header is not JSON/);
    await rejects(await fileWith("[1]", 0), /not a JSON object/);
    await rejects(await fileWith('{"__metadata__":{"a":1}}', 0), /__metadata__ is not a map from text to text/);
  });

  test("entries that do not fit", async () => {
    await rejects(await fileWith({ x: 3 }, 4), /tensor "x": expected \{dtype, shape, data_offsets\}/);
    await rejects(
      await fileWith({ x: { dtype: "Q4", shape: [1], data_offsets: [0, 4] } }, 4),
      /tensor "x": unknown dtype "Q4"/,
    );
    await rejects(await fileWith({ x: f32([-1], [0, 4]) }, 4), /tensor "x": shape \[-1\] is not a list of sizes/);
    await rejects(await fileWith({ x: f32([1], [4]) }, 4), /tensor "x": data_offsets \[4\] are not \[begin, end\]/);
    await rejects(
      await fileWith({ x: f32([2], [0, 4]) }, 4),
      /tensor "x": F32\[2\] takes 8 bytes, data_offsets hold 4/,
    );
  });

  test("gaps, overlaps, duplicates", async () => {
    await rejects(await fileWith({ x: f32([1], [4, 8]) }, 8), /tensor "x" leaves a gap before it/);
    await rejects(
      await fileWith({ x: f32([2], [0, 8]), y: f32([1], [4, 8]) }, 8),
      /tensor "y" overlaps the tensor before it/,
    );
    const entry = JSON.stringify(f32([1], [0, 4]));
    await rejects(await fileWith(`{"x":${entry},"x":${entry}}`, 4), /tensor "x" is listed twice/);
  });
});
