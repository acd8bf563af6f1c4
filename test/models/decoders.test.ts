/** What the siblings of Llama read of their config.json, and what they refuse. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { gemma2, gemma3Text, gptNeo, gptNeoX, mistral, palm, qwen2, qwen3 } from "../../src/models/index.ts";
import { parseRope, ropeFrequencies, ropeScoreFactor } from "../../src/models/layers/index.ts";

function rejects(parse: () => unknown, message: RegExp): void {
  assert.throws(parse, (error: Error) => {
    assert.equal(error.name, "PlinthError");
    assert.match(error.message, message);
    return true;
  });
}

const dials = { vocabSize: 50, contextLength: 64, hiddenSize: 32, numLayers: 4, numHeads: 4 };

suite("rotary scaling", () => {
  test("yarn, with the values of transformers 5.23", () => {
    const { theta, scaling } = parseRope({
      rope_theta: 1e6,
      rope_scaling: { type: "yarn", factor: 4 },
      max_position_embeddings: 32768,
    });
    assert.deepEqual(scaling, { rope_type: "yarn", factor: 4, original_max_position_embeddings: 32768 });
    const frequencies = ropeFrequencies(scaling, theta, 128);
    const plain = ropeFrequencies({ rope_type: "default" }, theta, 128);
    assert.deepEqual(frequencies.slice(0, 20), plain.slice(0, 20));
    assert.deepEqual(
      frequencies.slice(40),
      plain.slice(40).map((f) => f / 4),
    );
    const every3rdFrom24 = [
      0.005375321488827467, 0.002423422411084175, 0.0010643609566614032, 0.0004503235686570406, 0.0001798411540221423,
      0.00006490394298452884,
    ];
    every3rdFrom24.forEach((expected, i) => {
      assert.ok(Math.abs((frequencies[24 + 3 * i] as number) / expected - 1) < 3e-7, `${24 + 3 * i}`);
    });
    assert.equal(ropeScoreFactor(scaling), (0.1 * Math.log(4) + 1) ** 2);
    assert.equal(ropeScoreFactor({ ...scaling, attention_factor: 1.5 } as typeof scaling), 2.25);
  });

  test("dynamic changes nothing as far as a model reads", () => {
    const plain = ropeFrequencies({ rope_type: "default" }, 10000, 16);
    assert.deepEqual(ropeFrequencies({ rope_type: "dynamic", factor: 4 }, 10000, 16), plain);
  });

  test("kinds that are not implemented, by name", () => {
    for (const family of [mistral, qwen2, qwen3, gemma2]) {
      const parse = (edit: object) => () => family.parseConfig({ model_type: family.modelType, ...edit });
      const key = family.modelType === "gemma2" ? "hidden_activation" : "hidden_act";
      rejects(parse({ rope_scaling: { rope_type: "longrope", factor: 2 } }), /rope_type "longrope" is not implemented/);
      rejects(parse({ rope_parameters: { partial_rotary_factor: 0.5 } }), /partial_rotary_factor 0\.5 is not impl/);
      rejects(parse({ [key]: "xielu" }), /hidden_act.*: .*, got "xielu"/);
    }
  });
});

suite("layers that see all tokens, and layers that slide", () => {
  test("mistral slides in all layers, or in none", () => {
    assert.equal(mistral.parseConfig({ model_type: "mistral" }).slidingWindow, 4096);
    const none = mistral.parseConfig({ model_type: "mistral", sliding_window: null });
    assert.equal(none.slidingWindow, undefined);
    assert.equal(mistral.formatConfig(none).sliding_window, null);
    assert.equal(mistral.createConfig(dials).slidingWindow, 32);
    assert.equal(mistral.createConfig(dials).numKvHeads, 4);
  });

  test("qwen slides in the upper layers where it is asked for", () => {
    const of = (edit: object) => qwen2.parseConfig({ ...qwen2.formatConfig(qwen2.createConfig(dials)), ...edit });
    const off = of({ layer_types: undefined, sliding_window: 8, max_window_layers: 2 });
    assert.deepEqual(off.layerTypes, new Array(4).fill("full_attention"));
    const on = of({ layer_types: undefined, use_sliding_window: true, sliding_window: 8, max_window_layers: 3 });
    assert.deepEqual(on.layerTypes, ["full_attention", "full_attention", "full_attention", "sliding_attention"]);
    const { use_sliding_window, sliding_window, max_window_layers } = qwen2.formatConfig(on);
    assert.deepEqual([use_sliding_window, sliding_window, max_window_layers], [true, 8, 3]);
    assert.deepEqual(qwen2.parseConfig(qwen2.formatConfig(on)), on);
  });

  test("what does not fit", () => {
    const parse = (edit: object) => () =>
      qwen3.parseConfig({ ...qwen3.formatConfig(qwen3.createConfig(dials)), ...edit });
    const sliding = new Array(4).fill("sliding_attention");
    rejects(parse({ layer_types: ["full_attention"] }), /layer_types has 1 entries for num_hidden_layers 4/);
    rejects(parse({ layer_types: sliding, use_sliding_window: true, sliding_window: null }), /there is no sliding_w/);
    rejects(parse({ layer_types: sliding, sliding_window: 8 }), /there is no sliding_window/);
    rejects(parse({ layer_types: ["chunked_attention"] }), /layer_types\.0: .*, got "chunked_attention"/);
    rejects(() => qwen2.parseConfig({ model_type: "qwen2", use_mrope: true }), /use_mrope: .*, got true/);
  });

  test("gemma 2 slides in every other layer, gemma 3 in five of six", () => {
    const kinds = (types: readonly string[]): string => types.map((type) => type[0]).join("");
    assert.equal(kinds(gemma2.createConfig(dials).layerTypes), "sfsf");
    const c = gemma3Text.createConfig({ ...dials, numLayers: 13 });
    assert.equal(kinds(c.layerTypes), "sssssfsssssfs");
    const every3rd = { ...gemma3Text.formatConfig(c), layer_types: null, sliding_window_pattern: 3 };
    assert.equal(kinds(gemma3Text.parseConfig(every3rd).layerTypes), "ssfssfssfssfs");
  });
});

suite("gemma", () => {
  test("defaults of the reference", () => {
    const c = gemma2.parseConfig({ model_type: "gemma2", hidden_act: "gelu_pytorch_tanh" });
    assert.deepEqual(
      [c.attnLogitSoftcapping, c.finalLogitSoftcapping, c.queryPreAttnScalar, c.slidingWindow, c.headDim],
      [50, 30, 256, 4096, 256],
    );
    const uncapped = gemma2.parseConfig({ model_type: "gemma2", attn_logit_softcapping: null });
    assert.equal(uncapped.attnLogitSoftcapping, undefined);
    assert.equal(gemma3Text.parseConfig({ model_type: "gemma3_text" }).finalLogitSoftcapping, undefined);
  });

  test("rotary positions of gemma 3 by kind of layer, older and newer spelling", () => {
    const parse = (edit: object) => gemma3Text.parseConfig({ model_type: "gemma3_text", ...edit });
    const none = parse({});
    assert.deepEqual([none.ropeTheta, none.localRope.theta], [1e6, 1e4]);
    const linear = { rope_type: "linear", factor: 8 };
    const older = parse({ rope_theta: 5e5, rope_scaling: linear, rope_local_base_freq: 300 });
    assert.deepEqual([older.ropeTheta, older.ropeScaling, older.localRope.theta], [5e5, linear, 300]);
    assert.equal(older.localRope.scaling.rope_type, "default");
    assert.deepEqual({ ...parse(gemma3Text.formatConfig(older)), inert: {} }, older);
    const newer = parse({
      rope_parameters: { full_attention: linear, sliding_attention: { ...linear, rope_theta: 300 } },
    });
    assert.deepEqual([newer.ropeTheta, newer.ropeScaling], [1e6, linear]);
    assert.deepEqual(newer.localRope, { theta: 300, scaling: linear });
    assert.deepEqual({ ...parse(gemma3Text.formatConfig(newer)), inert: {} }, newer);
  });

  test("what is not implemented", () => {
    for (const family of [gemma2, gemma3Text]) {
      const parse = (edit: object) => () => family.parseConfig({ model_type: family.modelType, ...edit });
      rejects(parse({ use_bidirectional_attention: true }), /use_bidirectional_attention: .*, got true/);
    }
    const parse = (edit: object) => () => gemma3Text.parseConfig({ model_type: "gemma3_text", ...edit });
    rejects(parse({ attn_logit_softcapping: 50 }), /attn_logit_softcapping: .*, got 50/);
    rejects(parse({ rope_parameters: { rope_theta: 5 } }), /rope_parameters: .*rope_theta/);
  });
});

suite("gpt_neo", () => {
  test("kinds of layers", () => {
    const c = gptNeo.parseConfig({ model_type: "gpt_neo" });
    assert.equal(c.attentionLayers.length, 24);
    assert.deepEqual(c.attentionLayers.slice(0, 3), ["global", "local", "global"]);
    assert.deepEqual(gptNeo.createConfig({ ...dials, numLayers: 3 }).attentionLayers, ["global", "local", "global"]);
    assert.equal(gptNeo.createConfig({ ...dials, numLayers: 1 }).attentionLayers.length, 1);
  });

  test("what does not fit", () => {
    const parse = (edit: object) => () => gptNeo.parseConfig({ model_type: "gpt_neo", num_layers: 2, ...edit });
    rejects(parse({}), /attention_types has 24 layers, num_layers is 2/);
    rejects(parse({ attention_types: [[["global", "lokal"], 1]] }), /attention_types.*, got "lokal"/);
    const types = { attention_types: [[["global"], 2]] };
    rejects(parse({ ...types, attention_layers: ["global", "local"] }), /attention_layers is not what attention_types/);
    rejects(parse({ ...types, activation_function: "gelu3" }), /activation_function: .*, got "gelu3"/);
    rejects(() => gptNeo.createConfig({ ...dials, numKvHeads: 2 }), /gpt_neo has no grouped-query attention/);
  });
});

suite("gpt_neox", () => {
  const parse = (edit: object) => gptNeoX.parseConfig({ model_type: "gpt_neox", ...edit });
  const rotation = (edit: object) => {
    const { ropeTheta, ropeScaling, rotaryShare } = parse(edit);
    return [ropeTheta, ropeScaling, rotaryShare];
  };
  const plain = { rope_type: "default" };

  test("rotary positions under the names of every release", () => {
    assert.deepEqual(rotation({}), [10000, plain, 0.25]);
    assert.deepEqual(rotation({ rotary_emb_base: 500, rotary_pct: 0.5 }), [500, plain, 0.5]);
    assert.deepEqual(rotation({ rope_theta: 500, partial_rotary_factor: 1 }), [500, plain, 1]);
    const both = { rotary_emb_base: 500, rope_theta: 500, rotary_pct: 0.5, partial_rotary_factor: 0.5 };
    assert.deepEqual(rotation({ ...both, rope_scaling: { type: "linear", factor: 2 } }), [
      500,
      { rope_type: "linear", factor: 2 },
      0.5,
    ]);
    const newest = { rope_type: "default", rope_theta: 500, partial_rotary_factor: 0.5 };
    assert.deepEqual(rotation({ rope_parameters: newest }), [500, plain, 0.5]);
  });

  test("the 20B as published", () => {
    const c = parse({
      architectures: ["GPTNeoXForCausalLM"],
      attention_probs_dropout_prob: 0,
      bos_token_id: 0,
      eos_token_id: 0,
      hidden_act: "gelu_fast",
      hidden_dropout_prob: 0,
      hidden_size: 6144,
      initializer_range: 0.02,
      intermediate_size: 24576,
      layer_norm_eps: 1e-5,
      max_position_embeddings: 2048,
      num_attention_heads: 64,
      num_hidden_layers: 44,
      rotary_emb_base: 10000,
      rotary_pct: 0.25,
      tie_word_embeddings: false,
      torch_dtype: "float16",
      use_cache: true,
      vocab_size: 50432,
    });
    const specs = Object.values(gptNeoX.parameters(c));
    const size = specs.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
    assert.equal(size, 20554567680);
    assert.deepEqual([c.headDim, c.useParallelResidual, c.attentionBias], [96, true, true]);
  });

  test("what stands in published files beside the weights", () => {
    const { inert, tied } = gptNeoX.checkpoint;
    for (const name of ["bias", "masked_bias", "rotary_emb.inv_freq"]) {
      assert.match(`gpt_neox.layers.0.attention.${name}`, inert);
    }
    assert.doesNotMatch("gpt_neox.layers.0.attention.dense.bias", inert);
    assert.deepEqual(tied(parse({ tie_word_embeddings: true })), { "embed_out.weight": "gpt_neox.embed_in.weight" });
  });

  test("what does not fit", () => {
    const refuses = (edit: object, message: RegExp) => rejects(() => parse(edit), message);
    refuses({ rotary_emb_base: 500, rope_theta: 10000 }, /rotary_emb_base is 500 and rope_theta is 10000/);
    refuses({ rotary_pct: 0.25, partial_rotary_factor: 1 }, /rotary_pct is 0\.25 and partial_rotary_factor is 1/);
    refuses({ rotary_pct: 0.1 }, /rotates 9 of 96 channels of a head, which are no pairs/);
    refuses({ rotary_pct: 1.5 }, /partial_rotary_factor: expected a share .*, got 1\.5/);
    refuses({ rope_scaling: { type: "longrope", factor: 2 } }, /rope_type "longrope" is not implemented/);
    refuses({ hidden_act: "gelu3" }, /hidden_act: .*, got "gelu3"/);
    refuses({ hidden_size: 6145 }, /hidden_size 6145 is not a multiple of num_attention_heads 64/);
    rejects(() => gptNeoX.createConfig({ ...dials, numKvHeads: 2 }), /gpt_neox has no grouped-query attention/);
  });

  test("a new one rotates a quarter of each head, or all where that gives no pairs", () => {
    assert.equal(gptNeoX.createConfig(dials).rotaryShare, 0.25);
    assert.equal(gptNeoX.createConfig({ ...dials, hiddenSize: 48 }).rotaryShare, 1);
    assert.equal(gptNeoX.createConfig(dials).intermediateSize, 128);
  });
});

suite("palm", () => {
  test("one key-value head, one table", () => {
    const c = palm.createConfig(dials);
    assert.deepEqual([c.numKvHeads, c.headDim, c.intermediateSize, c.tieWordEmbeddings], [1, 8, 128, true]);
    assert.deepEqual(palm.parameters(c)["model.layers.0.self_attn.k_proj.weight"]?.shape, [8, 32]);
    rejects(() => palm.createConfig({ ...dials, numKvHeads: 2 }), /palm has one key-value head/);
    rejects(() => palm.createConfig({ ...dials, tieWordEmbeddings: false }), /one table for input and output/);
    rejects(() => palm.parseConfig({ model_type: "palm", use_bias: true }), /unknown key "use_bias"/);
  });

  test("the paper's initial weights, and its 8 billion parameters", () => {
    const specs = palm.parameters(palm.parseConfig({ model_type: "palm" }));
    const std = (name: string) => (specs[name] as { init: { std: number } }).init.std;
    assert.equal(std("model.embed_tokens.weight"), 1);
    assert.equal(std("model.layers.0.self_attn.q_proj.weight"), 1 / 64);
    assert.equal(std("model.layers.0.mlp.down_proj.weight"), 1 / 128);
    const size = Object.values(specs).reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
    assert.equal(Math.round(size / 1e7), 863);
  });
});
