import assert from "node:assert/strict";
import { test } from "node:test";
import { gptBigCode, starcoder2 } from "../../src/models/index.ts";

// as bigcode/starcoder publishes it
const starcoder = {
  activation_function: "gelu",
  architectures: ["GPTBigCodeForCausalLM"],
  attention_softmax_in_fp32: true,
  multi_query: true,
  attn_pdrop: 0.1,
  bos_token_id: 0,
  embd_pdrop: 0.1,
  eos_token_id: 0,
  inference_runner: 0,
  initializer_range: 0.02,
  layer_norm_epsilon: 1e-5,
  max_batch_size: null,
  max_sequence_length: null,
  model_type: "gpt_bigcode",
  n_embd: 6144,
  n_head: 48,
  n_inner: 24576,
  n_layer: 40,
  n_positions: 8192,
  pad_key_length: true,
  pre_allocate_kv_cache: false,
  resid_pdrop: 0.1,
  scale_attention_softmax_in_fp32: true,
  scale_attn_weights: true,
  summary_activation: null,
  summary_use_proj: true,
  torch_dtype: "float32",
  transformers_version: "4.28.1",
  use_cache: true,
  validate_runner_input: true,
  vocab_size: 49152,
};

// as bigcode/starcoder2-3b publishes it
const starcoder2Published = {
  architectures: ["Starcoder2ForCausalLM"],
  attention_dropout: 0.1,
  attention_softmax_in_fp32: true,
  bos_token_id: 0,
  embedding_dropout: 0.1,
  eos_token_id: 0,
  hidden_act: "gelu_pytorch_tanh",
  hidden_size: 3072,
  initializer_range: 0.018042,
  intermediate_size: 12288,
  layer_norm_epsilon: 1e-5,
  max_position_embeddings: 16384,
  mlp_type: "default",
  model_type: "starcoder2",
  norm_epsilon: 1e-5,
  norm_type: "layer_norm",
  num_attention_heads: 24,
  num_hidden_layers: 30,
  num_key_value_heads: 2,
  residual_dropout: 0.1,
  rope_theta: 999999.4420358813,
  scale_attention_softmax_in_fp32: true,
  sliding_window: 4096,
  torch_dtype: "float32",
  transformers_version: "4.37.0.dev0",
  use_bias: true,
  use_cache: true,
  vocab_size: 49152,
};

function count(parameters: Readonly<Record<string, { readonly shape: readonly number[] }>>): number {
  return Object.values(parameters).reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
}

test("published StarCoder configs are read, with the published numbers of parameters", () => {
  const first = gptBigCode.parseConfig(starcoder);
  assert.deepEqual([first.numKvHeads, first.headDim, first.contextLength], [1, 128, 8192]);
  assert.ok(Math.abs(count(gptBigCode.parameters(first)) / 15.5e9 - 1) < 0.01);
  const second = starcoder2.parseConfig(starcoder2Published);
  assert.deepEqual([second.numKvHeads, second.slidingWindow, second.tieWordEmbeddings], [2, 4096, true]);
  assert.ok(Math.abs(count(starcoder2.parameters(second)) / 3.03e9 - 1) < 0.01);
  assert.deepEqual(starcoder2.parseConfig(starcoder2.formatConfig(second)), second);
});

test("what is not implemented is refused by name", () => {
  const fails = (action: () => unknown, message: RegExp) => assert.throws(action, { name: "PlinthError", message });
  fails(
    () => gptBigCode.parseConfig({ ...starcoder, num_key_value_heads: 4 }),
    /num_key_value_heads 4 contradicts multi_query true/,
  );
  fails(() => gptBigCode.parseConfig({ ...starcoder, add_cross_attention: true }), /add_cross_attention/);
  fails(() => starcoder2.parseConfig({ ...starcoder2Published, mlp_type: "gated" }), /mlp_type/);
  fails(() => starcoder2.parseConfig({ ...starcoder2Published, hidden_act: "gelu_3" }), /hidden_act/);
  const dials = { vocabSize: 40, contextLength: 16, hiddenSize: 24, numLayers: 1, numHeads: 4, numKvHeads: 2 };
  fails(() => gptBigCode.createConfig(dials), /one for all, or one each.*starcoder2/);
});
