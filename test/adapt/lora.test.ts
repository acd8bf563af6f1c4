import assert from "node:assert/strict";
import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import {
  adapt,
  adapterMethods,
  findAdapter,
  initLora,
  linearModules,
  loadAdapter,
  mergeLora,
  readPeft,
  unmergeLora,
  withLora,
  writePeft,
} from "../../src/adapt/index.ts";
import { packageRoot } from "../../src/base/index.ts";
import type { Batch, BatchSource } from "../../src/data/index.ts";
import { type Backend, createBackend, jit, NdArray, type Tensor, unflatten } from "../../src/engine/index.ts";
import { loadModel, type Model, quantizeModel, readSafetensors, writeSafetensors } from "../../src/models/index.ts";
import type { TrainEvent } from "../../src/train/index.ts";

const goldens = join(packageRoot(), "test", "golden-adapt");
const bases = join(packageRoot(), "test", "golden");
/** Adapter of the goldens and the model it was made for. */
const cases: Readonly<Record<string, string>> = {
  gpt2: "gpt2",
  "gpt2-all": "gpt2",
  llama: "llama-gqa",
  "llama-all": "llama",
};

/** Both backends; one that this machine cannot run carries the reason. */
const backends = (["reference", "native"] as const).map((name) => {
  try {
    return { name, backend: createBackend(name), skip: false as const };
  } catch (error) {
    return { name, backend: undefined, skip: (error as Error).message };
  }
});
const reference = createBackend("reference");

async function temporaryFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "plinth-adapt-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

async function logitsOf(model: Model, tokens: NdArray, backend: Backend = reference): Promise<NdArray> {
  const forward = jit(
    (params: Readonly<Record<string, Tensor>>, tokens: Tensor) =>
      model.family.forward(unflatten(Object.entries(params)), { tokens }, model.config).logits,
    { backend },
  );
  return forward(Object.fromEntries(model.params), tokens);
}

/** Largest difference relative to the largest expected magnitude. */
function relativeError(actual: NdArray, expected: NdArray): number {
  assert.deepEqual(actual.shape, expected.shape);
  let [difference, magnitude] = [0, 0];
  for (let i = 0; i < expected.size; i++) {
    difference = Math.max(difference, Math.abs((actual.data[i] as number) - (expected.data[i] as number)));
    magnitude = Math.max(magnitude, Math.abs(expected.data[i] as number));
  }
  return difference / magnitude;
}

/** One batch over and over. */
function repeated(tokens: readonly number[][], vocabulary: number): BatchSource & { readonly batch: Batch } {
  const shape = [tokens.length, (tokens[0] as number[]).length];
  const flat = tokens.flat().map((id) => id % vocabulary);
  const batch = {
    tokens: NdArray.int32(shape, flat),
    targets: NdArray.int32(
      shape,
      flat.map((id) => (id * 7 + 3) % vocabulary),
    ),
    tokenCount: flat.length,
    byteCount: flat.length,
  };
  return { batch, next: async () => batch, state: () => 0, restore: () => undefined, reports: [] };
}
const someTokens = Array.from({ length: 4 }, (_, row) => Array.from({ length: 9 }, (_, i) => row * 13 + i * 5 + 1));

for (const [name, base] of Object.entries(cases)) {
  for (const { name: backendName, backend, skip } of backends) {
    test(`PEFT's adapter ${name} gives the same logits (${backendName})`, { skip }, async () => {
      const model = await loadModel(join(bases, base));
      const golden = await readSafetensors(join(goldens, name, "golden.safetensors"));
      const [tokens, expected] = [golden.array("tokens"), golden.array("logits")];
      const adapted = await loadAdapter(model, join(goldens, name));
      const error = relativeError(await logitsOf(adapted, tokens, backend), expected);
      assert.ok(error <= 1e-5, `logits: ${error}`);
      assert.ok(relativeError(await logitsOf(model, tokens, backend), expected) > 1e-2, "the adapter should matter");
    });
  }

  test(`PEFT's adapter ${name}: merged weights and the way back`, async () => {
    const model = await loadModel(join(bases, base));
    const folder = join(goldens, name);
    const golden = await readSafetensors(join(folder, "golden.safetensors"));
    const [tokens, expected] = [golden.array("tokens"), golden.array("logits")];
    const adapter = await readPeft(folder, linearModules(model));
    const merged = await mergeLora(model, adapter);
    const mergedNames = [...golden.entries.keys()].filter((key) => key.startsWith("merged."));
    assert.ok(mergedNames.length > 0);
    for (const key of mergedNames) {
      const error = relativeError(merged.params.get(key.slice("merged.".length)) as NdArray, golden.array(key));
      assert.ok(error <= 1e-6, `${key}: ${error}`);
    }
    assert.ok(relativeError(await logitsOf(merged, tokens), expected) <= 1e-5);
    const back = await unmergeLora(merged, adapter);
    for (const [name, array] of model.params) {
      assert.ok(relativeError(back.params.get(name) as NdArray, array) <= 2e-6, `${name} after unmerging`);
    }
  });

  test(`an adapter read from PEFT (${name}) is written with the same bytes`, async (t) => {
    const out = await temporaryFolder(t);
    const modules = linearModules(await loadModel(join(bases, base)));
    await writePeft(await readPeft(join(goldens, name), modules), modules, out);
    assert.deepEqual(
      await readFile(join(out, "adapter_model.safetensors")),
      await readFile(join(goldens, name, "adapter_model.safetensors")),
    );
    assert.deepEqual((await readPeft(out, modules)).rsLora, name === "gpt2-all");
  });
}

for (const { method } of adapterMethods()) {
  for (const base of ["gpt2", "llama-gqa", "llama-bf16-sharded"]) {
    test(`${method} on ${base}: begins as the model itself, learns, and comes back from its files`, async (t) => {
      const out = await temporaryFolder(t);
      const loaded = await loadModel(join(bases, base));
      // What qlora trains beside.
      const model = method === "qlora" ? quantizeModel(loaded, { format: "nf4" }) : loaded;
      const before = [...(await logitsOf(model, tokensOf(model))).data];
      const adaptation = findAdapter(method).adapt(model, { seed: 1 });
      const start = adaptation.result(adaptation.trainable);
      assert.deepEqual([...(await logitsOf(start, tokensOf(model))).data], before);

      const losses: number[] = [];
      const data = repeated(someTokens, model.config.vocabSize);
      const trained = await adapt(model, {
        method,
        data,
        out,
        backend: reference,
        steps: 12,
        checkpointEvery: 6,
        schedule: { name: "constant", lr: 0.02 },
        onEvent: (event: TrainEvent) => event.kind === "step" && losses.push(event.loss),
      });
      assert.ok((losses.at(-1) as number) < 0.8 * (losses[0] as number), `losses ${losses[0]} to ${losses.at(-1)}`);
      const after = [...(await logitsOf(trained.model, data.batch.tokens)).data];
      for (const folder of [out, join(out, "checkpoints", "step-000012")]) {
        const opened = method === "full" ? await loadModel(folder) : await loadAdapter(model, folder);
        assert.deepEqual([...(await logitsOf(opened, data.batch.tokens)).data], after, folder);
      }
      assert.deepEqual([...(await logitsOf(model, tokensOf(model))).data], before, "the model given is left as it is");
    });
  }
}

function tokensOf(model: Model): NdArray {
  return repeated(someTokens, model.config.vocabSize).batch.tokens;
}

test("adapters trained here open in PEFT with the same logits", async (t) => {
  const python = process.env.PLINTH_PYTHON;
  if (python === undefined)
    return t.skip("PLINTH_PYTHON is not set: it names a python with torch, transformers and peft");
  for (const [base, targets, rsLora] of [
    ["gpt2", ["c_attn", "c_proj"], false],
    ["llama-gqa", ["all-linear"], true],
    ["gpt_neox", ["all-linear"], false],
  ] as const) {
    const out = await temporaryFolder(t);
    const model = await loadModel(join(bases, base));
    const trained = await adapt(model, {
      method: "lora",
      adapter: { rank: 3, alpha: 7, dropout: 0.2, targets, rsLora, baseModel: base },
      data: repeated(someTokens, model.config.vocabSize),
      out,
      backend: reference,
      steps: 10,
      schedule: { name: "constant", lr: 0.05 },
    });
    const values = join(out, "values.safetensors");
    const tokens = tokensOf(model);
    await writeSafetensors(values, [
      ["tokens", tokens],
      ["logits", await logitsOf(trained.model, tokens)],
    ]);
    const script = join(goldens, "check_peft.py");
    const checked: SpawnSyncReturns<string> = spawnSync(python, [script, join(bases, base), out, values], {
      encoding: "utf8",
    });
    assert.equal(checked.status, 0, checked.stderr);
    const seen = JSON.parse(checked.stdout.trimEnd().split("\n").at(-1) as string);
    t.diagnostic(`${base}: ${JSON.stringify(seen)}`);
    assert.ok(seen.with <= 1e-5, `${base}: logits differ by ${seen.with}`);
    assert.ok(seen.without > 1e-3, `${base}: the adapter should matter`);
    assert.deepEqual([seen.unknown, seen.missing], [[], []]);
  }
});

test("dropout is on while training and off afterwards", async (t) => {
  const model = await loadModel(join(bases, "gpt2"));
  const lossesWith = async (dropout: number): Promise<number[]> => {
    const losses: number[] = [];
    await adapt(model, {
      method: "lora",
      adapter: { dropout },
      data: repeated(someTokens, model.config.vocabSize),
      out: await temporaryFolder(t),
      backend: reference,
      steps: 3,
      schedule: { name: "constant", lr: 0.05 },
      onEvent: (event) => event.kind === "step" && losses.push(event.loss),
    });
    return losses;
  };
  const [off, on] = [await lossesWith(0), await lossesWith(0.5)];
  // B is zero at first, so the first loss is the same and the update is not.
  assert.equal(on[0], off[0]);
  assert.notEqual(on[2], off[2]);
});

test("all-linear leaves out the head, whatever it is called", async () => {
  for (const [name, layers] of [
    ["gpt_neox", 8],
    ["gpt2-variant", 8],
    ["gemma3_text", 21],
  ] as const) {
    const { params } = initLora(await loadModel(join(bases, name)), { targets: ["all-linear"] });
    assert.equal(Object.keys(params).length, 2 * layers, name);
    assert.ok(!Object.keys(params).some((path) => /^(lm_head|embed_out)/.test(path)), name);
  }
});

test("targets: suffixes at a dot, all-linear without the head, a name that matches nothing", async () => {
  const model = await loadModel(join(bases, "llama"));
  const paths = (targets: readonly string[]) =>
    Object.keys(initLora(model, { targets }).params).filter((name) => name.endsWith("lora_A.weight")).length;
  assert.equal(paths(["q_proj"]), 2);
  assert.equal(paths(["model.layers.1.self_attn.q_proj"]), 1);
  assert.equal(paths(["all-linear"]), 14);
  assert.equal(paths(["lm_head"]), 1);
  assert.throws(() => initLora(model, { targets: ["proj"] }), {
    message:
      'targets: no linear layer of this llama model is called "proj". Fix: use all-linear, or some of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, lm_head.',
  });
  assert.throws(() => initLora(model, { rank: 0 }), { message: /^rank: expected a whole number of at least 1, got 0/ });
  assert.throws(() => initLora(model, { alpha: -1 }), { message: /^alpha: expected more than 0, got -1/ });
  assert.throws(() => initLora(model, { dropout: 1 }), {
    message: /^dropout: expected a rate from 0 to below 1, got 1/,
  });
});

test("methods and their options are refused by name", async () => {
  const model = await loadModel(join(bases, "gpt2"));
  assert.throws(() => findAdapter("lorra"), { message: 'adaptation method "lorra" is not known. Fix: use "lora".' });
  assert.throws(() => findAdapter("full").adapt(model, { rank: 4 }), {
    message: /^method "full" has no option "rank"/,
  });
});

test("what PEFT can do and Plinth cannot is refused by name", async (t) => {
  const folder = await temporaryFolder(t);
  await cp(join(goldens, "gpt2"), folder, { recursive: true });
  const modules = linearModules(await loadModel(join(bases, "gpt2")));
  const path = join(folder, "adapter_config.json");
  const plain = JSON.parse(await readFile(path, "utf8"));
  const refuse = async (change: object, message: RegExp): Promise<void> => {
    await writeFile(path, JSON.stringify({ ...plain, ...change }));
    await assert.rejects(readPeft(folder, modules), { name: "PlinthError", message });
  };
  await refuse({ use_dora: true }, /use_dora true is a feature of PEFT that Plinth does not have\. Fix: /);
  await refuse({ bias: "all" }, /bias "all" is a feature of PEFT/);
  await refuse({ modules_to_save: ["scores"] }, /modules_to_save lists scores, which this model does not have/);
  await refuse({ rank_pattern: { c_attn: 2 } }, /rank_pattern .* is a feature/);
  await refuse({ something_new: 3 }, /something_new 3 is a feature/);
  await refuse({ peft_type: "IA3" }, /peft_type "IA3" is not supported\. Fix: use an adapter of peft_type "LORA"/);
  await refuse({ init_lora_weights: "pissa" }, /init_lora_weights "pissa" changes the base model's weights too/);
  await refuse({ r: "8" }, /expected a number for r, got "8"/);
  await refuse({ r: 4 }, /lora_A\.weight" expected \[4,24\], got \[3,24\]/);
  await refuse(
    { target_modules: ["c_attn", "c_fc"] },
    /lists "c_fc", but adapter_model\.safetensors has no weights for it/,
  );
});

test("an adapter of another model is refused", async () => {
  const model = await loadModel(join(bases, "llama"));
  await assert.rejects(loadAdapter(model, join(goldens, "gpt2")), {
    message:
      /c_attn\.lora_A\.weight" belongs to no linear layer of this model\. Fix: use the adapter with the model that it was trained on\.$/,
  });
});

test("an adapter without its other half is refused", async (t) => {
  const folder = await temporaryFolder(t);
  const model = await loadModel(join(bases, "gpt2"));
  const adapter = initLora(model, { targets: ["c_attn"] });
  const { "transformer.h.1.attn.c_attn.lora_B.weight": _, ...params } = adapter.params;
  await writePeft({ ...adapter, params }, linearModules(model), folder);
  await assert.rejects(loadAdapter(model, folder), {
    message:
      /"base_model\.model\.transformer\.h\.1\.attn\.c_attn\.lora_B\.weight" is missing\. Fix: the file is incomplete/,
  });
  assert.ok(withLora(model, adapter).params.has("transformer.h.1.attn.c_attn.lora_B.weight"));
});
