import assert from "node:assert/strict";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { NdArray } from "../../src/engine/index.ts";
import {
  castParams,
  loadModel,
  type Model,
  readSafetensors,
  type StoredTensor,
  saveModel,
  writeSafetensors,
} from "../../src/models/index.ts";
import { goldenDir } from "./support.ts";

let root = "";
let count = 0;
before(async () => {
  root = await mkdtemp(join(tmpdir(), "plinth-checkpoint-"));
});
after(() => rm(root, { recursive: true, force: true }));

/** A copy of a golden model to damage. */
async function copyOf(name: string): Promise<string> {
  const dir = join(root, `${count++}`);
  await cp(join(goldenDir, name), dir, { recursive: true });
  await rm(join(dir, "golden.safetensors"));
  return dir;
}

async function editConfig(dir: string, edit: Record<string, unknown>): Promise<void> {
  const path = join(dir, "config.json");
  const json = { ...(JSON.parse(await readFile(path, "utf8")) as object), ...edit };
  await writeFile(path, JSON.stringify(json));
}

type Tensors = Map<string, NdArray | StoredTensor>;
async function editWeights(dir: string, edit: (tensors: Tensors) => void): Promise<void> {
  const path = join(dir, "model.safetensors");
  const file = await readSafetensors(path);
  const tensors: Tensors = new Map([...file.entries.keys()].map((name) => [name, file.stored(name)]));
  edit(tensors);
  await writeSafetensors(path, tensors);
}

async function rejects(dir: string, message: RegExp): Promise<void> {
  await assert.rejects(loadModel(dir), (error: Error) => {
    assert.equal(error.name, "PlinthError");
    assert.match(error.message, message);
    assert.match(error.message, /\. Fix: .+\.$/);
    assert.ok(error.message.startsWith(dir), error.message);
    return true;
  });
}

suite("what the reference wrote", () => {
  for (const name of [
    "gpt2",
    "gpt2-variant",
    "gpt_neox",
    "gpt_neox-variant",
    "llama-gqa",
    "llama3",
    "llama-bf16-sharded",
    "gpt2-f16-bare",
  ]) {
    test(`${name}: loaded and saved, the same bytes`, async () => {
      const dir = await copyOf(name);
      const out = join(root, `out-${name}`);
      await saveModel(await loadModel(dir), out);
      const files = (await readdir(dir)).sort();
      assert.deepEqual((await readdir(out)).sort(), files);
      for (const file of files) {
        assert.ok((await readFile(join(dir, file))).equals(await readFile(join(out, file))), file);
      }
    });
  }

  test("element types are those of the file", async () => {
    const types = async (name: string) =>
      new Set([...(await loadModel(join(goldenDir, name))).params.values()].map((a) => a.dtype));
    assert.deepEqual([...(await types("llama-bf16-sharded"))], ["bfloat16"]);
    assert.deepEqual([...(await types("gpt2-f16-bare"))], ["float16"]);
    assert.deepEqual([...(await types("gpt2"))], ["float32"]);
  });

  test("widened and narrowed again, the same bits", async () => {
    for (const [name, dtype] of [
      ["llama-bf16-sharded", "bfloat16"],
      ["gpt2-f16-bare", "float16"],
    ] as const) {
      const { params } = await loadModel(join(goldenDir, name));
      const wide = castParams(params, "float32");
      const narrow = castParams(wide, dtype);
      for (const [key, array] of params) {
        assert.equal(wide.get(key)?.dtype, "float32");
        assert.deepEqual(narrow.get(key)?.data, array.data, key);
      }
      assert.equal(castParams(params, dtype).get([...params.keys()][0] as string), [...params.values()][0]);
    }
  });

  const mask: StoredTensor = { dtype: "U8", shape: [1, 1, 2, 2], bytes: Uint8Array.of(1, 0, 1, 1) };
  for (const [name, inert, copy, original] of [
    ["gpt2", ["transformer.h.0.attn.bias"], "lm_head.weight", "transformer.wte.weight"],
    [
      "gpt_neox-variant",
      ["bias", "masked_bias", "rotary_emb.inv_freq"].map((leaf) => `gpt_neox.layers.1.attention.${leaf}`),
      "embed_out.weight",
      "gpt_neox.embed_in.weight",
    ],
  ] as const) {
    test(`${name}: masks of old checkpoints and the tied copy are kept`, async () => {
      const dir = await copyOf(name);
      await editWeights(dir, (tensors) => {
        for (const unused of inert) tensors.set(unused, mask);
        tensors.set(copy, tensors.get(original) as StoredTensor);
      });
      const model = await loadModel(dir);
      assert.ok(!model.params.has(copy));
      const out = join(root, `masks-${name}`);
      await saveModel(model, out);
      const file = "model.safetensors";
      assert.ok((await readFile(join(dir, file))).equals(await readFile(join(out, file))));
    });
  }
});

suite("saving what changed", () => {
  test("new weights go into the same files; a new element type into config.json too", async () => {
    const dir = await copyOf("llama-bf16-sharded");
    const model = await loadModel(dir);
    const params = new Map([...model.params].map(([name, { shape }]) => [name, NdArray.zeros("float32", shape)]));
    const out = join(root, "changed");
    await saveModel({ ...model, params }, out);
    assert.deepEqual((await readdir(out)).sort(), (await readdir(dir)).sort());
    const back = await loadModel(out);
    assert.ok([...back.params.values()].every(({ dtype, data }) => dtype === "float32" && data.every((x) => x === 0)));
    assert.equal((JSON.parse(await readFile(join(out, "config.json"), "utf8")) as { dtype: string }).dtype, "float32");
    const index = JSON.parse(await readFile(join(out, "model.safetensors.index.json"), "utf8")) as {
      metadata: { total_size: number };
    };
    assert.equal(index.metadata.total_size, 4 * [...params.values()].reduce((n, { size }) => n + size, 0));
  });

  test("over an older model in the same folder: no file of it remains to be read", async () => {
    const dir = await copyOf("llama-bf16-sharded");
    const model = await loadModel(join(goldenDir, "llama"));
    await saveModel(model, dir);
    assert.deepEqual((await readdir(dir)).sort(), ["config.json", "model.safetensors"]);
    assert.equal((await loadModel(dir)).params.size, model.params.size);
  });

  test("over the very files that the weights are mapped from", async () => {
    const dir = await copyOf("llama-bf16-sharded");
    const names = (await readdir(dir)).sort();
    const before = await Promise.all(names.map((name) => readFile(join(dir, name))));
    const model = await loadModel(dir);
    await saveModel(model, dir);
    await saveModel(model, dir, { maxShardBytes: 1e6 });
    assert.deepEqual((await readdir(dir)).sort(), ["config.json", "model.safetensors"]);
    await saveModel(model, dir);
    assert.deepEqual((await readdir(dir)).sort(), names);
    const after = await Promise.all(names.map((name) => readFile(join(dir, name))));
    after.forEach((bytes, i) => {
      assert.ok(bytes.equals(before[i] as Buffer), names[i]);
    });
  });

  test("parameters that are not the model's", async () => {
    const model = await loadModel(join(goldenDir, "gpt2"));
    const params = new Map(model.params);
    params.delete("transformer.ln_f.bias");
    await assert.rejects(
      saveModel({ ...model, params }, join(root, "no")),
      /parameter "transformer.ln_f.bias" is missing/,
    );
    params.set("transformer.ln_f.bias", NdArray.zeros("float32", [3]));
    await assert.rejects(saveModel({ ...model, params }, join(root, "no")), /expected \[24\], got \[3\]/);
    params.set("x", NdArray.zeros("float32", [3]));
    await assert.rejects(saveModel({ ...model, params }, join(root, "no")), /"x" is no parameter of gpt2/);
  });
});

suite("folders that do not fit together", () => {
  test("no folder, no config, no weights", async () => {
    await rejects(join(root, "nowhere"), /nowhere: no such folder/);
    const dir = join(root, "bare");
    await mkdir(dir);
    await rejects(dir, /bare: no config\.json/);
    await cp(join(goldenDir, "gpt2", "config.json"), join(dir, "config.json"));
    await rejects(dir, /no weights \(model\.safetensors or model\.safetensors\.index\.json, pytorch_model\.bin or/);
    await writeFile(join(dir, "pytorch_model.bin"), "");
    await rejects(dir, /pytorch_model\.bin: not a zip archive, or truncated/);
  });

  test("config: damaged, no model_type, unsupported, unknown key", async () => {
    const dir = await copyOf("gpt2");
    await editConfig(dir, { n_embed: 24 });
    await rejects(dir, /config\.json: unknown key "n_embed" \(did you mean "n_embd"\?\)/);
    await editConfig(dir, { model_type: "gpt3" });
    await rejects(
      dir,
      /model_type "gpt3" is not supported \(did you mean "gpt2"\?\)\. Fix: use one of bert, .*gpt2, .*llama/,
    );
    await writeFile(join(dir, "config.json"), "{}");
    await rejects(dir, /no model_type/);
    await writeFile(join(dir, "config.json"), "{");
    await rejects(dir, /config\.json: not valid JSON/);
  });

  test("missing and unused weights, with the nearest names", async () => {
    const dir = await copyOf("gpt2");
    await editWeights(dir, (tensors) => {
      tensors.set("transformer.h.0.ln_3.weight", tensors.get("transformer.h.0.ln_1.weight") as StoredTensor);
      tensors.delete("transformer.h.0.ln_1.weight");
    });
    await rejects(
      dir,
      /1 weights missing: "transformer\.h\.0\.ln_1\.weight" \(nearest: "transformer\.h\.0\.ln_3\.weight"\)/,
    );
    await rejects(dir, /1 weights unused: "transformer\.h\.0\.ln_3\.weight" \(nearest: /);
    await editConfig(dir, { n_layer: 1 });
    await rejects(dir, /13 weights unused: .*, \.\.\./);
  });

  test("wrong shape", async () => {
    const dir = await copyOf("gpt2");
    await editConfig(dir, { vocab_size: 60 });
    await rejects(dir, /tensor "transformer\.wte\.weight": expected shape \[60,24\] from config\.json, got \[61,24\]/);
  });

  test("a tied head that differs", async () => {
    const dir = await copyOf("gpt2-variant");
    await editConfig(dir, { tie_word_embeddings: true });
    await rejects(dir, /ties "lm_head\.weight" to "transformer\.wte\.weight", and the weights of the two differ/);
  });

  test("one parameter under two names", async () => {
    const dir = await copyOf("gpt2");
    await editWeights(dir, (tensors) => {
      tensors.set("wte.weight", tensors.get("transformer.wte.weight") as StoredTensor);
    });
    await rejects(dir, /are the same parameter/);
  });

  test("an element type the engine lacks", async () => {
    const dir = await copyOf("gpt2");
    await editWeights(dir, (tensors) => {
      tensors.set("transformer.ln_f.bias", { dtype: "F64", shape: [24], bytes: new Uint8Array(24 * 8) });
    });
    await rejects(dir, /tensor "transformer\.ln_f\.bias" has element type F64/);
  });

  test("shards: one missing, or at odds with the index", async () => {
    const dir = await copyOf("llama-bf16-sharded");
    const shard = join(dir, "model-00002-of-00003.safetensors");
    const [bytes, index] = [await readFile(shard), join(dir, "model.safetensors.index.json")];
    await rm(shard);
    await rejects(dir, /shard model-00002-of-00003\.safetensors is missing/);
    await writeFile(shard, await readFile(join(dir, "model-00001-of-00003.safetensors")));
    await rejects(dir, /tensor ".+" should be in model-00002-of-00003\.safetensors and is not/);
    await writeFile(shard, bytes);
    const text = await readFile(index, "utf8");
    await writeFile(index, text.replace(/ {4}"model\.norm\.weight".*,?\n/, "").replace(/,\n {2}\}/, "\n  }"));
    await rejects(dir, /tensor "model\.norm\.weight" is not listed for this file/);
    await writeFile(index, text.replaceAll("model-00001", "../model-00001"));
    await rejects(dir, /points to ".*", expected a \.safetensors file of this folder/);
    await writeFile(index, "{}");
    await rejects(dir, /no weight_map/);
  });

  test("a tokenizer with more ids than the model has rows", async () => {
    const dir = await copyOf("gpt2");
    const vocab = Object.fromEntries(Array.from({ length: 62 }, (_, i) => [`w${i}`, i]));
    const tokenizer = { version: "1.0", added_tokens: [], model: { type: "WordLevel", vocab, unk_token: "w0" } };
    await writeFile(
      join(dir, "tokenizer.json"),
      JSON.stringify({
        ...tokenizer,
        truncation: null,
        padding: null,
        normalizer: null,
        pre_tokenizer: { type: "WhitespaceSplit" },
        post_processor: null,
        decoder: null,
      }),
    );
    await rejects(dir, /the tokenizer has 62 ids, the model has rows for 61 \(vocab_size\)/);
    await editConfig(dir, {});
    delete vocab.w61;
    await writeFile(
      join(dir, "tokenizer.json"),
      JSON.stringify({
        ...tokenizer,
        model: { ...tokenizer.model, vocab },
        pre_tokenizer: { type: "WhitespaceSplit" },
      }),
    );
    const model: Model = await loadModel(dir);
    assert.equal(model.tokenizer?.vocabSize, 61);
    const out = join(root, "with-tokenizer");
    await saveModel(model, out);
    assert.ok((await readdir(out)).includes("tokenizer.json"));
    assert.deepEqual([...((await (await loadModel(out)).tokenizer?.encode("w3 w60")) ?? [])], [3, 60]);
  });
});
