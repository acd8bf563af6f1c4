/** Folders written here open in transformers with the same logits. Needs a Python with torch and transformers. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { defaultBackend, HostRandom, NdArray } from "../../src/engine/index.ts";
import {
  gemma2,
  gemma3Text,
  gpt2,
  gptBigCode,
  gptNeo,
  gptNeoX,
  type HeadKind,
  headConfig,
  headOf,
  initModel,
  llama,
  type Model,
  type ModelConfig,
  type ModelFamily,
  mistral,
  mixtral,
  modelFamilies,
  qwen2,
  qwen3,
  saveModel,
  starcoder2,
  t5,
  writeSafetensors,
} from "../../src/models/index.ts";
import { decodeGreedily, goldenDir, logitsOf } from "./support.ts";

const python = process.env.PLINTH_PYTHON;
const skip = python === undefined && "set PLINTH_PYTHON to a Python with torch and transformers";
const dials = {
  vocabSize: 43,
  contextLength: 32,
  hiddenSize: 48,
  numLayers: 2,
  numHeads: 6,
  bosTokenId: 0,
  eosTokenId: 1,
};
const scaling = {
  rope_type: "llama3",
  factor: 4,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 16,
};

/** Every head that an architecture has: `bert-sequence-classification`. */
function headed<C extends ModelConfig>(family: ModelFamily<C>): Record<string, readonly [unknown, ModelConfig]> {
  const kinds = Object.keys(family.heads ?? {}) as HeadKind[];
  const config = family.createConfig(dials);
  return Object.fromEntries(
    kinds.map((kind) => [
      `${family.modelType}-${kind}`,
      [family, { ...config, head: headConfig(kind, ["no", "maybe", "yes"]) }],
    ]),
  );
}

/** What is padding to the reference: it has no position in RoBERTa, and a decoder's classifier does not read it. */
function padOf(config: ModelConfig): unknown {
  if ("padTokenId" in config) return config.padTokenId;
  return headOf(config).kind === "sequence-classification" ? config.eosTokenIds[0] : undefined;
}

/** [family, config, largest file] */
const cases: Record<string, readonly [unknown, ModelConfig, number?]> = {
  ...Object.assign({}, ...modelFamilies().map(headed)),
  gpt2: [gpt2, gpt2.createConfig(dials)],
  "gpt2-untied-sharded": [
    gpt2,
    gpt2.createConfig({ ...dials, tieWordEmbeddings: false, intermediateSize: 80 }),
    40_000,
  ],
  llama: [llama, llama.createConfig(dials)],
  "llama-grouped-tied-sharded": [
    llama,
    llama.createConfig({ ...dials, numKvHeads: 2, tieWordEmbeddings: true }),
    40_000,
  ],
  "llama-scaled-biased": [
    llama,
    llama.parseConfig({
      ...llama.formatConfig(llama.createConfig(dials)),
      rope_scaling: scaling,
      attention_bias: true,
      mlp_bias: true,
      head_dim: 16,
    }),
  ],
  mistral: [mistral, mistral.createConfig({ ...dials, numKvHeads: 2, contextLength: 18 })],
  qwen2: [
    qwen2,
    qwen2.parseConfig({
      ...qwen2.formatConfig(qwen2.createConfig(dials)),
      layer_types: null,
      use_sliding_window: true,
      sliding_window: 4,
      max_window_layers: 1,
      rope_scaling: { type: "yarn", factor: 2, original_max_position_embeddings: 16 },
    }),
  ],
  qwen3: [qwen3, qwen3.createConfig({ ...dials, numKvHeads: 2, tieWordEmbeddings: true })],
  mixtral: [mixtral, mixtral.createConfig({ ...dials, numKvHeads: 2, intermediateSize: 64 }), 40_000],
  gpt_neo: [gptNeo, gptNeo.createConfig({ ...dials, numLayers: 3, intermediateSize: 80 })],
  gpt_neox: [gptNeoX, gptNeoX.createConfig(dials)],
  "gpt_neox-sequential": [
    gptNeoX,
    gptNeoX.parseConfig({
      ...gptNeoX.formatConfig(gptNeoX.createConfig({ ...dials, tieWordEmbeddings: true })),
      use_parallel_residual: false,
      attention_bias: false,
      rotary_pct: 0.5,
      rotary_emb_base: 500,
      rope_scaling: scaling,
    }),
  ],
  gemma2: [gemma2, gemma2.createConfig({ ...dials, numKvHeads: 2, contextLength: 18 })],
  gemma3: [gemma3Text, gemma3Text.createConfig({ ...dials, numLayers: 7, tieWordEmbeddings: false })],
  "gemma3-scaled": [
    gemma3Text,
    gemma3Text.parseConfig({
      ...gemma3Text.formatConfig(gemma3Text.createConfig(dials)),
      rope_parameters: {
        full_attention: { rope_type: "linear", factor: 8 },
        sliding_attention: { rope_type: "linear", factor: 2, rope_theta: 300 },
      },
    }),
  ],
  gpt_bigcode: [gptBigCode, gptBigCode.createConfig(dials)],
  "gpt_bigcode-heads": [gptBigCode, gptBigCode.createConfig({ ...dials, numKvHeads: 6, tieWordEmbeddings: false })],
  starcoder2: [starcoder2, starcoder2.createConfig({ ...dials, numKvHeads: 2 })],
  "starcoder2-window": [
    starcoder2,
    starcoder2.parseConfig({
      ...starcoder2.formatConfig(starcoder2.createConfig(dials)),
      sliding_window: 5,
      use_bias: false,
    }),
  ],
  t5: [t5, t5.createConfig(dials)],
  "t5-tied": [t5, t5.parseConfig({ ...t5.formatConfig(t5.createConfig(dials)), tie_word_embeddings: true })],
};

test("transformers opens what is written here and computes the same", { skip }, async () => {
  const root = await mkdtemp(join(tmpdir(), "plinth-hf-"));
  try {
    const greedy = new Map<string, number[]>();
    for (const [name, [family, config, maxShardBytes]] of Object.entries(cases)) {
      const model = initModel(family as ModelFamily, config, { seed: 11 }) as Model;
      const random = new HostRandom(12);
      const { kind = "decoder" } = family as ModelFamily;
      for (const { data, shape } of model.params.values()) {
        // An encoder-decoder's weights start large, and larger norms would make more of rounding than is measured here.
        const gain = kind === "encoder-decoder" || shape.length < 2 ? 1 : 5;
        for (let i = 0; i < data.length; i++) data[i] = (data[i] as number) * gain + 0.1 * random.normal();
      }
      const dir = join(root, name);
      await saveModel(model, dir, maxShardBytes === undefined ? {} : { maxShardBytes });
      const tokens = NdArray.int32(
        [2, 12],
        Array.from({ length: 24 }, () => {
          const id = random.int(dials.vocabSize);
          return id === padOf(config) ? id + 1 : id;
        }),
      );
      const reading = kind === "encoder-decoder" ? { source: tokens } : {};
      const logits = await logitsOf(model, { tokens, ...reading }, defaultBackend());
      await writeSafetensors(join(dir, "expected.safetensors"), [
        ["tokens", tokens],
        ["logits", logits],
      ]);
      if (kind !== "decoder" || headOf(config).kind !== "lm") {
        greedy.set(name, []);
        continue;
      }
      const prompt = NdArray.int32([1, 12], tokens.data.slice(0, 12) as Int32Array);
      greedy.set(name, [...(await decodeGreedily(model, prompt, 5, defaultBackend())).ids]);
    }
    const folders = Object.keys(cases).map((name) => join(root, name));
    const { stdout } = await promisify(execFile)(python as string, [
      join(goldenDir, "check_hf_roundtrip.py"),
      ...folders,
    ]);
    const results = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    assert.equal(results.length, folders.length);
    for (const { folder, error, missing, unexpected, generated } of results) {
      assert.deepEqual([missing, unexpected], [[], []], `${folder}`);
      assert.ok((error as number) <= 1e-5, `${folder}: ${error}`);
      assert.deepEqual(generated, greedy.get(basename(folder as string)));
    }
  } finally {
    await rm(root, { recursive: true, force: true });
  }
});
