import assert from "node:assert/strict";
import { test } from "node:test";
import { createBackend, crossEntropy, jit, NdArray, reshape, type Tensor, unflatten } from "../../src/engine/index.ts";
import { initModel, type ModelConfig, type ModelFamily, modelFamilies, tokenLosses } from "../../src/models/index.ts";
import "./bigram.ts";

const backend = createBackend("native");

const dials = { vocabSize: 301, contextLength: 16, hiddenSize: 32, numLayers: 2, numHeads: 2, eosTokenId: 0 };

/** Tied and not; undefined where the family has no such model. */
function configOf(family: ModelFamily, tieWordEmbeddings: boolean): ModelConfig | undefined {
  try {
    return family.createConfig({ ...dials, tieWordEmbeddings });
  } catch {
    return undefined;
  }
}

for (const family of modelFamilies()) {
  for (const tieWordEmbeddings of family.kind === "encoder" ? [true] : [true, false]) {
    const config = configOf(family, tieWordEmbeddings);
    if (config === undefined) continue;
    test(`${family.modelType}, ${tieWordEmbeddings ? "tied" : "untied"}: losses in chunks have the bits of losses from all logits`, async () => {
      const params = Object.fromEntries(initModel(family, config, { seed: 3 }).params);
      const tokens = NdArray.int32(
        [2, 16],
        Int32Array.from({ length: 32 }, (_, i) => (i * 37) % 301),
      );
      const targets = NdArray.int32(
        [32],
        Int32Array.from({ length: 32 }, (_, i) => (i % 5 === 0 ? -100 : (i * 91) % 301)),
      );
      const { chunked, whole } = await jit(
        (params: Record<string, Tensor>, tokens: Tensor, targets: Tensor) => {
          const tree = unflatten(Object.entries(params));
          const inputs = family.kind === "encoder-decoder" ? { tokens, source: tokens } : { tokens };
          const { logits } = family.forward(tree, inputs, config);
          return {
            chunked: tokenLosses({ family, config, params: tree, ignoreIndex: -100 }, inputs, targets),
            whole: crossEntropy(reshape(logits, [32, 301]), targets),
          };
        },
        { backend },
      )(params, tokens, targets);
      assert.deepEqual(chunked.data, whole.data);
    });
  }
}
