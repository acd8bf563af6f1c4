import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { suite, test } from "node:test";
import { gpt2, initModel, llama, modelFamilies, modelFamily } from "../../src/models/index.ts";
import { goldenDir } from "./support.ts";

const config = async (name: string): Promise<Record<string, unknown>> =>
  JSON.parse(await readFile(join(goldenDir, name, "config.json"), "utf8")) as Record<string, unknown>;

function rejects(parse: () => unknown, message: RegExp): void {
  assert.throws(parse, (error: Error) => {
    assert.equal(error.name, "PlinthError");
    assert.match(error.message, message);
    assert.match(error.message, /\. Fix: /);
    return true;
  });
}

suite("registry", () => {
  test("families by model_type; an unknown one names those there are", () => {
    const names = modelFamilies().map(({ modelType }) => modelType);
    for (const name of ["bert", "gpt2", "llama"]) assert.ok(names.includes(name), name);
    assert.equal(new Set(names).size, names.length);
    assert.equal(modelFamily("llama").modelType, "llama");
    rejects(
      () => modelFamily("lama"),
      /model_type "lama" is not supported \(did you mean "llama"\?\).*use one of bert, .*gpt2, .*llama, /,
    );
  });
});

suite("config.json of gpt2", () => {
  test("keys of the reference, and its defaults", async () => {
    const c = gpt2.parseConfig(await config("gpt2-variant"));
    assert.equal(c.intermediateSize, 40);
    assert.equal(c.activation, "gelu");
    assert.equal(c.layerNormEps, 1e-3);
    assert.equal(c.scaleAttnByInverseLayerIdx, true);
    assert.equal(c.tieWordEmbeddings, false);
    assert.deepEqual(c.eosTokenIds, [1]);
    assert.equal(c.inert.summary_type, "cls_index");
    assert.ok(Object.isFrozen(c));
    const d = gpt2.parseConfig({ model_type: "gpt2", eos_token_id: [3, 4] });
    assert.deepEqual([d.vocabSize, d.contextLength, d.hiddenSize, d.numLayers, d.numHeads], [50257, 1024, 768, 12, 12]);
    assert.deepEqual(d.eosTokenIds, [3, 4]);
  });

  test("what does not fit", () => {
    const parse = (edit: object) => () => gpt2.parseConfig({ model_type: "gpt2", ...edit });
    rejects(parse({ n_layr: 3 }), /unknown key "n_layr" \(did you mean "n_layer"\?\)/);
    rejects(
      parse({ aa_bb_cc: 3, n_positons: 4 }),
      /unknown keys "aa_bb_cc", "n_positons" \(did you mean "n_positions"\?\)/,
    );
    rejects(parse({ n_layer: 1.5 }), /n_layer: .*, got 1\.5/);
    rejects(parse({ n_head: 7 }), /n_embd 768 is not a multiple of n_head 7/);
    rejects(parse({ activation_function: "gelu2" }), /activation_function: .*, got "gelu2"/);
    rejects(parse({ add_cross_attention: true }), /add_cross_attention: .*, got true/);
    rejects(() => gpt2.parseConfig([]), /expected an object/);
    rejects(
      () =>
        gpt2.createConfig({ vocabSize: 9, contextLength: 9, hiddenSize: 8, numLayers: 1, numHeads: 4, numKvHeads: 2 }),
      /no grouped-query attention/,
    );
  });

  test("residual projections start smaller, by depth", () => {
    const c = gpt2.createConfig({ vocabSize: 9, contextLength: 9, hiddenSize: 8, numLayers: 8, numHeads: 2 });
    const specs = gpt2.parameters(c);
    const std = (name: string) => (specs[name] as { init: { std: number } }).init.std;
    assert.equal(std("transformer.h.0.attn.c_attn.weight"), 0.02);
    assert.equal(std("transformer.h.0.attn.c_proj.weight"), 0.02 / 4);
    assert.equal(std("transformer.h.7.mlp.c_proj.weight"), 0.02 / 4);
    assert.ok(!("lm_head.weight" in specs));
  });

  test("GPT-2's 124 million", () => {
    const specs = gpt2.parameters(gpt2.parseConfig({ model_type: "gpt2" }));
    const size = Object.values(specs).reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
    assert.equal(size, 124_439_808);
  });
});

suite("config.json of llama", () => {
  test("older and newer spelling of rotary positions", async () => {
    const newer = llama.parseConfig(await config("llama3"));
    assert.equal(newer.ropeTheta, 10000);
    assert.equal(newer.ropeScaling.rope_type, "llama3");
    assert.equal(newer.headDim, 16);
    const older = llama.parseConfig({
      model_type: "llama",
      rope_theta: 500000,
      rope_scaling: { type: "linear", factor: 2 },
    });
    assert.deepEqual([older.ropeTheta, older.ropeScaling], [500000, { rope_type: "linear", factor: 2 }]);
    const none = llama.parseConfig({ model_type: "llama", rope_scaling: null });
    assert.deepEqual([none.ropeTheta, none.ropeScaling], [10000, { rope_type: "default" }]);
    const back = llama.parseConfig(llama.formatConfig(newer));
    assert.deepEqual(back.ropeScaling, newer.ropeScaling);
  });

  test("what does not fit", () => {
    const parse = (edit: object) => () => llama.parseConfig({ model_type: "llama", ...edit });
    rejects(
      parse({ rope_scaling: { rope_type: "longrope", factor: 2 } }),
      /rope_scaling: rope_type "longrope" is not implemented.*default, linear, dynamic, yarn, llama3/,
    );
    rejects(parse({ rope_scaling: { rope_type: "yarn", factor: 0.5 } }), /rope_scaling\.factor: /);
    rejects(parse({ rope_parameters: { rope_type: "llama3", factor: 8 } }), /rope_parameters\.low_freq_factor: /);
    rejects(parse({ rope_parameters: { rope_type: "linear", factor: 8, facto: 1 } }), /rope_parameters.*facto/);
    rejects(
      parse({ num_attention_heads: 6, head_dim: 8, num_key_value_heads: 4 }),
      /6 is not a multiple of num_key_value_heads 4/,
    );
    rejects(parse({ hidden_size: 100, num_attention_heads: 32 }), /head width of 3\.125, which is not even/);
    rejects(parse({ hiden_size: 4 }), /unknown key "hiden_size" \(did you mean "hidden_size"\?\)/);
    rejects(parse({ sliding_window: 4 }), /unknown key "sliding_window"/);
  });

  test("a new model by its dials", () => {
    const c = llama.createConfig({
      vocabSize: 100,
      contextLength: 64,
      hiddenSize: 96,
      numLayers: 1,
      numHeads: 6,
      numKvHeads: 2,
      dropout: 0.1,
    });
    assert.deepEqual([c.numKvHeads, c.headDim, c.intermediateSize, c.attentionDropout], [2, 16, 256, 0.1]);
    assert.deepEqual(c.eosTokenIds, []);
    const { params } = initModel(llama, c, { seed: 0 });
    assert.deepEqual(params.get("model.layers.0.self_attn.k_proj.weight")?.shape, [32, 96]);
    assert.ok(params.has("lm_head.weight"));
  });
});
