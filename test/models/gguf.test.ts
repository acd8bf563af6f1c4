import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { packageRoot } from "../../src/base/index.ts";
import { jit, NdArray, type Tensor, unflatten } from "../../src/engine/index.ts";
import {
  gpt2,
  initModel,
  llama,
  type Model,
  type ModelFamily,
  quantizeQ4_0,
  saveGguf,
  writeGguf,
} from "../../src/models/index.ts";
import { float16Value, quantizedValue } from "./gguf-support.ts";

async function temporary<T>(run: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), "plinth-gguf-"));
  try {
    return await run(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

const python = process.env.PLINTH_PYTHON;
function missing(module: string): string | false {
  if (python === undefined) return "PLINTH_PYTHON is not set";
  return spawnSync(python, ["-c", `import ${module}`]).status === 0 ? false : `${python} has no ${module}`;
}

function tiny(): Model {
  const dials = { vocabSize: 96, contextLength: 64, hiddenSize: 64, numLayers: 2, numHeads: 4, numKvHeads: 2 };
  const family = llama as unknown as ModelFamily;
  const model = initModel(family, family.createConfig(dials), { seed: 5 });
  const larger = [...model.params].map(([name, array]) =>
    array.shape.length === 1 ? [name, array] : [name, scaled(array, 4)],
  );
  return { ...model, params: new Map(larger as [string, NdArray][]) };
}
function scaled(array: NdArray, factor: number): NdArray {
  return NdArray.float32(
    array.shape,
    (array.data as Float32Array).map((x) => factor * x),
  );
}

test("the file is laid out as the format says", async () => {
  await temporary(async (folder) => {
    const path = join(folder, "a.gguf");
    const data = Float32Array.of(1, 2, 3, 4, 5, 6);
    await writeGguf(path, { name: "ü", count: 7, on: true, eps: { float32: 0.5 } }, [
      { name: "t", shape: [2, 3], type: "F32", data: () => new Uint8Array(data.buffer) },
      { name: "u", shape: [6], type: "F32", data: () => new Uint8Array(data.buffer) },
    ]);
    const file = await readFile(path);
    assert.equal(file.subarray(0, 4).toString(), "GGUF");
    assert.deepEqual([file.readUInt32LE(4), file.readBigUInt64LE(8), file.readBigUInt64LE(16)], [3, 2n, 4n]);
    assert.equal(file.length % 32, 0);
    // The last tensor begins at a multiple of 32 and is padded to one.
    assert.equal(file.readFloatLE(file.length - 32 + 20), 6);
    assert.equal(file.readFloatLE(file.length - 64 + 20), 6);
    const short = { name: "t", shape: [4], type: "F32", data: () => new Uint8Array(12) } as const;
    await assert.rejects(writeGguf(path, {}, [short]), /t: expected 16 bytes of F32\[4\], got 12/);
  });
});

test("Q4_0 keeps the element of largest magnitude and is within half a step of the others", () => {
  const values = Float32Array.from({ length: 64 }, (_, i) => Math.sin(i * 1.7) * (i < 32 ? 1 : 0.01));
  const bytes = quantizeQ4_0(values);
  assert.equal(bytes.length, 36);
  for (let block = 0; block < 2; block++) {
    const scale = float16Value(bytes, block * 18);
    for (let i = 0; i < 32; i++) {
      const difference = Math.abs(quantizedValue(bytes, block, i) - (values[block * 32 + i] as number));
      // Beyond +7 steps there is no code, so the largest of the other sign may be a whole step off.
      assert.ok(difference <= 1.01 * Math.abs(scale), `${block}, ${i}: ${difference} of ${scale}`);
    }
  }
  assert.deepEqual([...quantizeQ4_0(new Float32Array(32))].slice(2), new Array(16).fill(0x88));
});

test("other families are refused", async () => {
  const family = gpt2 as unknown as ModelFamily;
  const dials = { vocabSize: 8, contextLength: 8, hiddenSize: 8, numLayers: 1, numHeads: 1 };
  const model = initModel(family, family.createConfig(dials), { seed: 0 });
  await assert.rejects(saveGguf(model, "unused", { type: "F16" }), /unquantised models of the family llama/);
});

test("the gguf package reads what was written, with its own codes", { skip: missing("gguf") }, async () => {
  await temporary(async (folder) => {
    const model = tiny();
    const path = join(folder, "model.gguf");
    await saveGguf(model, path, { type: "Q4_0" });
    const script = [
      "import sys, json, numpy as np, gguf",
      "r = gguf.GGUFReader(sys.argv[1])",
      "t = {t.name: t for t in r.tensors}",
      "w = np.fromfile(sys.argv[2], dtype=np.float32).reshape(-1, 64)",
      "own = t['blk.1.ffn_gate.weight'].data",
      "print(json.dumps({'names': sorted(t), 'types': {n: t[n].tensor_type.name for n in t},",
      "  'heads': int(r.fields['llama.attention.head_count'].parts[-1][0]),",
      "  'equal': float((own == gguf.quants.quantize(w, gguf.GGMLQuantizationType.Q4_0)).mean())}))",
    ].join("\n");
    const gate = model.params.get("model.layers.1.mlp.gate_proj.weight") as NdArray;
    const { buffer, byteOffset, byteLength } = gate.data;
    await writeFile(join(folder, "gate.f32"), new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength));
    const child = spawnSync(python as string, ["-c", script, path, join(folder, "gate.f32")], { encoding: "utf8" });
    assert.equal(child.status, 0, child.stderr);
    const seen = JSON.parse(child.stdout);
    assert.equal(seen.names.length, model.params.size);
    assert.equal(seen.types["blk.0.attn_norm.weight"], "F32");
    assert.equal(seen.types["output.weight"], "Q4_0");
    assert.equal(seen.heads, 4);
    assert.ok(seen.equal > 0.999, `${seen.equal} of the bytes`);
  });
});

test("llama.cpp gives the same logits", { skip: missing("llama_cpp") }, async () => {
  await temporary(async (folder) => {
    const model = tiny();
    const path = join(folder, "model.gguf");
    await saveGguf(model, path, { type: "F16" });
    const tokens = [1, 17, 95, 3, 3, 60];
    const requests = [{ model: path, threads: 2, context: 64 }, { logits: tokens }];
    const child = spawnSync(python as string, [join(packageRoot(), "bench", "peers", "llama_decode.py")], {
      input: requests.map((request) => JSON.stringify(request)).join("\n"),
      encoding: "utf8",
    });
    const theirs: number[] = JSON.parse(child.stdout.trim().split("\n")[1] as string).logits;
    const forward = jit((params: Readonly<Record<string, Tensor>>, ids: Tensor, last: Tensor) => {
      const inputs = { tokens: ids, lastIndex: last };
      return model.family.forward(unflatten(Object.entries(params)), inputs, model.config).logits;
    });
    const own = await forward(
      Object.fromEntries(model.params),
      NdArray.int32([1, tokens.length], tokens),
      NdArray.int32([1], [tokens.length - 1]),
    );
    const largest = Math.max(...theirs.map(Math.abs));
    own.data.forEach((value, i) => {
      assert.ok(Math.abs(value - (theirs[i] as number)) < 0.02 * largest, `${i}: ${value} and ${theirs[i]}`);
    });
  });
});
