import assert from "node:assert/strict";
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { loadModel, readSafetensors, readTorchCheckpoint, saveModel } from "../../src/models/index.ts";
import { type ZipOptions, zipArchive } from "../zip-archive.ts";
import { goldenDir } from "./support.ts";

const torchDir = join(goldenDir, "torch");
let dir = "";
before(async () => {
  dir = await mkdtemp(join(tmpdir(), "plinth-torch-"));
});
after(() => rm(dir, { recursive: true, force: true }));

async function rejects(what: Promise<unknown>, message: RegExp): Promise<void> {
  await assert.rejects(what, (error: Error) => {
    assert.equal(error.name, "PlinthError", error.stack);
    assert.match(error.message, message);
    assert.match(error.message, /\. Fix: .+\.$/);
    return true;
  });
}

suite("what torch.save wrote", () => {
  for (const name of ["dict.bin", "protocol-4.pt", "protocol-5.pt"]) {
    test(`${name}: element types, strides, offsets, shared storages`, async () => {
      const [file, expected] = [
        await readTorchCheckpoint(join(torchDir, name)),
        await readSafetensors(join(torchDir, "expected.safetensors")),
      ];
      assert.deepEqual([...file.entries.keys()].sort(), [...expected.entries.keys()].sort());
      for (const [name, { dtype, shape }] of expected.entries) {
        assert.deepEqual(file.entries.get(name), { dtype, shape }, name);
        const [tensor, wanted] = [file.stored(name), expected.stored(name)];
        assert.deepEqual({ ...tensor, bytes: [...tensor.bytes] }, { ...wanted, bytes: [...wanted.bytes] }, name);
      }
      assert.deepEqual(file.array("transposed").data, expected.array("transposed").data);
      assert.throws(() => file.array("f64"), /tensor "f64" has element type F64/);
      assert.throws(() => file.array("nope"), /no tensor "nope"/);
    });
  }

  test("contiguous tensors are views of the file, those of one storage of the same memory", async () => {
    const file = await readTorchCheckpoint(join(torchDir, "dict.bin"));
    const [whole, row] = [file.array("shared"), file.array("row")];
    assert.equal(whole.data.buffer, row.data.buffer);
    assert.equal(row.data.byteOffset - whole.data.byteOffset, 2 * 6 * 4);
    assert.notEqual(file.array("transposed").data.buffer, whole.data.buffer);
  });

  test("a state dict beside a training script's counters", async () => {
    const file = await readTorchCheckpoint(join(torchDir, "training.pth"));
    assert.deepEqual([...file.entries.keys()], ["0.weight", "0.bias", "1.weight", "1.bias"]);
    assert.deepEqual([...file.array("0.weight").data], [0, 1, 2, 3, 4, 5]);
    assert.deepEqual([...file.array("1.bias").data], [300, 301, 302]);
  });

  const refused: Record<string, RegExp> = {
    "legacy.bin": /legacy\.bin: PyTorch's format from before 1\.6 .* Fix: convert it .*torch\.save\(torch\.load/,
    "module.pt":
      /module\.pt: the pickle names "torch\.nn\.modules\.container\.Sequential", .*nothing of it was executed/,
    "sparse.pt": /sparse\.pt: the pickle names "torch\._utils\._rebuild_sparse_tensor"/,
    "tensor.pt": /tensor\.pt: no state dict/,
  };
  for (const [name, message] of Object.entries(refused)) {
    test(`${name} is refused`, () => rejects(readTorchCheckpoint(join(torchDir, name)), message));
  }

  test("truncated anywhere, an error", async () => {
    const whole = await readFile(join(torchDir, "dict.bin"));
    for (let length = 0; length < whole.length; length += 97) {
      const path = join(dir, "cut.bin");
      await writeFile(path, whole.subarray(0, length));
      await rejects(
        readTorchCheckpoint(path),
        /cut\.bin: (not a zip archive, or truncated|.* lies outside of the file)/,
      );
    }
  });

  test("bytes changed anywhere in the pickle: tensors or a PlinthError, nothing else", async () => {
    const whole = await readFile(join(torchDir, "dict.bin"));
    const path = join(dir, "changed.bin");
    const [from, to] = [whole.indexOf("data.pkl"), whole.indexOf("byteorder")];
    for (let i = from; i < to; i += 3) {
      const changed = Buffer.from(whole);
      changed[i] = (changed[i] as number) ^ (1 << (i % 8));
      await writeFile(path, changed);
      await readTorchCheckpoint(path).then(
        (file) => file.entries.size,
        (error: Error) => assert.equal(error.name, "PlinthError", error.stack),
      );
    }
  });
});

suite("model folders", () => {
  const twins = { "gpt2-bin": "gpt2-f16-bare", "gpt2-bin-sharded": "gpt2" };
  for (const [name, twin] of Object.entries(twins)) {
    test(`${name} opens like ${twin}, and is saved as safetensors`, async () => {
      const [model, expected] = [await loadModel(join(goldenDir, name)), await loadModel(join(goldenDir, twin))];
      assert.deepEqual([...model.params.keys()], [...expected.params.keys()]);
      for (const [name, { dtype, shape, data }] of expected.params) {
        const array = model.params.get(name);
        assert.deepEqual([array?.dtype, array?.shape, array?.data], [dtype, shape, data], name);
      }
      const out = join(dir, `out-${name}`);
      await saveModel(model, out);
      assert.deepEqual((await readdir(out)).sort(), ["config.json", "model.safetensors"]);
      const again = await loadModel(out);
      for (const [name, { data }] of expected.params) assert.deepEqual(again.params.get(name)?.data, data, name);
    });
  }

  test("safetensors are preferred; a missing shard is named", async () => {
    const folder = join(dir, "folder");
    await cp(join(goldenDir, "gpt2-bin-sharded"), folder, { recursive: true });
    await rm(join(folder, "pytorch_model-00002-of-00002.bin"));
    await rejects(
      loadModel(folder),
      /shard pytorch_model-00002-of-00002\.bin is missing; pytorch_model\.bin\.index\.json lists it/,
    );
    await cp(join(goldenDir, "gpt2", "model.safetensors"), join(folder, "model.safetensors"));
    assert.ok((await loadModel(folder)).params.size > 0);
  });
});

/** Opcodes of pickles made by hand. */
const proto = "\x80\x02";
const text = (value: string): string => `X${int32(value.length)}${value}`;
const int32 = (n: number): string => String.fromCharCode(n & 255, (n >> 8) & 255, (n >> 16) & 255, (n >>> 24) & 255);
const int = (n: number): string => `J${int32(n)}`;
const tuple = (...items: string[]): string => `(${items.join("")}t`;
const storage = (length: number, key = "0"): string =>
  `${tuple(text("storage"), "ctorch\nFloatStorage\n", text(key), text("cpu"), int(length))}Q`;
const tensor = (length: number, view: { offset?: string; shape?: string; strides?: string } = {}): string => {
  const { offset = int(0), shape = tuple(int(length)), strides = tuple(int(1)) } = view;
  return `ctorch._utils\n_rebuild_tensor_v2\n${tuple(storage(length), offset, shape, strides, "\x89", "ccollections\nOrderedDict\n)R")}R`;
};
const dict = (...items: string[]): string => `}(${items.join("")}u`;

/** Opens a checkpoint with this pickle and one storage of `bytes` bytes. */
async function open(pickle: string, bytes = 16, options: ZipOptions = {}) {
  const path = join(dir, "made.bin");
  const archive = zipArchive(
    [
      ["archive/data.pkl", Buffer.from(pickle, "latin1")],
      ["archive/data/0", Buffer.alloc(bytes)],
    ],
    options,
  );
  await writeFile(path, archive);
  return readTorchCheckpoint(path);
}
const refuses = (pickle: string, message: RegExp, bytes = 16): Promise<void> => rejects(open(pickle, bytes), message);

suite("hostile files", () => {
  test("made by hand, a good one is read; in zip64 too", async () => {
    const pickle = `${proto}${dict(text("w"), tensor(4))}.`;
    for (const zip64 of [false, true]) {
      assert.deepEqual((await open(pickle, 16, { zip64 })).entries.get("w"), { dtype: "F32", shape: [4] });
    }
    await rejects(open(pickle, 16, { deflate: true }), /data\.pkl is compressed, which torch\.save never does/);
  });

  test("a pickle that calls anything is refused by name, and nothing happens", async () => {
    const marker = join(dir, "marker");
    const calls: Record<string, string> = {
      "posix.system": `cposix\nsystem\n${tuple(text(`touch ${marker}`))}R`,
      "os.system": `${text("os")}${text("system")}\x93${tuple(text(`touch ${marker}`))}R`,
      "builtins.eval": `c__builtin__\neval\n${tuple(text("1"))}R`.replace("__builtin__", "builtins"),
      "builtins.getattr": "cbuiltins\ngetattr\n",
      "torch._utils.os.system": "ctorch._utils\nos.system\n",
      "torch.load": "ctorch\nload\n",
      "collections.namedtuple": "ccollections\nnamedtuple\n",
      "constructor.constructor": "cconstructor\nconstructor\n",
      "__proto__.toString": "c__proto__\ntoString\n",
    };
    for (const [name, call] of Object.entries(calls)) {
      await refuses(
        `${proto}${dict(text("w"), call)}.`,
        new RegExp(`the pickle names "${name}", .*nothing of it was exec`),
      );
    }
    await assert.rejects(readFile(marker), { code: "ENOENT" });
  });

  test("instructions that data does not need", async () => {
    for (const [name, code] of Object.entries({ inst: "i", obj: "o", newobj: "\x81", ext1: "\x82", persid: "P" })) {
      await refuses(`${proto}${code}posix\nsystem\n.`, /the pickle has the instruction 0x/);
      assert.ok(name);
    }
    await refuses("\x80\x00N.", /pickle protocol 0, expected 2 to 5/);
    await refuses(`${proto}ctorch\nFloatStorage\n)R.`, /calls torch\.FloatStorage, which may only be mentioned/);
    await refuses(`${proto}ctorch._utils\n_rebuild_tensor_v2\n}b.`, /sets attributes of an object/);
    await refuses(`${proto}ccollections\nOrderedDict\n(]tR.`, /OrderedDict with arguments/);
    await refuses(`${proto}\x8a\x09${"\x7f".repeat(9)}.`, /a number beyond 53 bits/);
  });

  test("recursion, references in a circle, a huge memo and floods are bounded", async () => {
    await refuses(`${proto}${"(".repeat(500_000)}${"t".repeat(500_000)}.`, /no state dict/);
    await refuses(`${proto}]${"q\x01h\x01a".repeat(10)}.`, /no state dict/);
    await refuses(`${proto}}q\x00${text("state_dict")}h\x00s.`, /no state dict: "state_dict" hold no tensor/);
    await refuses(`${proto}]r\xff\xff\xff\xff${dict(text("w"), "h\x01")}.`, /nothing was remembered as 1/);
    await refuses(`${proto}${"]".repeat(3_000_000)}.`, /more than 2097152 instructions/);
    await refuses(`${proto}${`X${int32(2 ** 31 - 1)}`}.`, /ends in the middle of an instruction/);
    await refuses(`${proto}\x8d${"\xff".repeat(8)}.`, /a text that is longer than the pickle/);
    await refuses(`${proto}${"A".repeat(2 ** 26)}.`, /a pickle of \d+ bytes \(the limit is 67108864\)/);
    // the billion laughs: doubles a tuple by reference, which costs nothing
    await refuses(`${proto})${"q\x00h\x00\x86".repeat(100)}.`, /no state dict/);
  });

  test("broken stacks", async () => {
    for (const code of [
      "a",
      "s",
      "u",
      "t",
      "R",
      "b",
      "0",
      "1",
      "q\x00",
      "Q",
      "\x93",
      "\x87",
      "(a",
      "(s",
      "h\x05",
      ".",
    ]) {
      await refuses(`${proto}${code}.`, /damaged pickle at byte|not describe tensors/);
    }
    await refuses(`${proto}(K\x01K\x02u.`, /the stack is empty/);
    await refuses(`${proto}K\x01K\x02a.`, /items for what is no list/);
    await refuses(proto, /ends in the middle of an instruction/);
  });

  test("tensors that the file does not hold", async () => {
    const one = (made: string): string => `${proto}${dict(text("w"), made)}.`;
    const beyond =
      /made\.bin: the pickle does not describe tensors: a tensor reaches beyond its storage 0 of 4 elements/;
    await refuses(one(tensor(4, { shape: tuple(int(5)) })), beyond);
    await refuses(one(tensor(4, { offset: int(1) })), beyond);
    await refuses(one(tensor(4, { strides: tuple(int(2)) })), beyond);
    await refuses(one(tensor(4, { offset: int(-1) })), /a tensor without storage/);
    await refuses(one(tensor(4, { strides: tuple(int(-1)) })), /size and stride are no lists/);
    await refuses(one(tensor(4, { shape: tuple(int(2), int(2)) })), /size and stride are no lists/);
    await refuses(one(tensor(4)), /storage 0 should have 16 bytes and has 12/, 12);
    await refuses(one(tensor(4).replace(text("0"), text("../0"))), /storage "..\/0" is not in the file/);
    const many = int(2 ** 30);
    const bomb = tensor(4, { shape: tuple(many, many), strides: tuple(int(0), int(0)) });
    await refuses(one(bomb), /tensor "w" repeats its elements to more than twice the size of the file/);
    await refuses(`${proto}${dict(int(1), tensor(4))}.`, /a tensor's name is no text/);
    await refuses(`${proto}}.`, /a state dict without tensors/);
  });

  test("other files", async () => {
    const path = join(dir, "other.bin");
    const cases: readonly (readonly [Uint8Array, RegExp])[] = [
      [Buffer.alloc(0), /not a zip archive, or truncated/],
      [Buffer.from("version https://git-lfs.github.com/spec/v1\n"), /a pointer of Git LFS/],
      [Buffer.concat([Buffer.alloc(257), Buffer.from("ustar"), Buffer.alloc(300)]), /before 1\.6 \(tar\)/],
      [zipArchive([["x/other", Buffer.alloc(1)]]), /a zip archive without data\.pkl/],
      [
        zipArchive([
          ["x/data.pkl", Buffer.from(")")],
          ["x/constants.pkl", Buffer.alloc(1)],
        ]),
        /a TorchScript program/,
      ],
      [
        zipArchive([
          ["x/data.pkl", Buffer.from(")")],
          ["x/byteorder", Buffer.from("big")],
        ]),
        /another byte order/,
      ],
    ];
    for (const [bytes, message] of cases) {
      await writeFile(path, bytes);
      await rejects(readTorchCheckpoint(path), message);
    }
  });
});
