import assert from "node:assert/strict";
import { test } from "node:test";
import { Tokenizer, trainBpe } from "../../src/data/index.ts";
import { HostRandom, jit, NdArray, type Tensor } from "../../src/engine/index.ts";
import { generateText } from "../../src/generate/index.ts";
import { bert, gpt2, initModel } from "../../src/models/index.ts";
import { createOptimizer, drawMasks, maskedLm, maskingOf, TrainStep } from "../../src/train/index.ts";

const [B, T, V] = [64, 128, 50];
const MASK = 3;
const options = { maskTokenId: MASK, specialIds: [0, 1, 2, MASK], vocabSize: V };

function randomTokens(seed: number): NdArray {
  const random = new HostRandom(seed);
  return NdArray.int32(
    [B, T],
    Array.from({ length: B * T }, (_, i) => (i % T === 0 ? 1 : 4 + random.int(V - 4))),
  );
}
/** Rows of growing length; the rest is padding. */
function paddedTargets(): NdArray {
  return NdArray.int32(
    [B, T],
    Array.from({ length: B * T }, (_, i) => (i % T < T / 2 + Math.floor(i / T) ? 5 : -100)),
  );
}
const key = (n: number): NdArray => NdArray.int32([2], [n, 7]);

test("15 % of the text are to be predicted: 80 % hidden, 10 % random, 10 % as they are", async () => {
  const draw = jit((tokens: Tensor, targets: Tensor, key: Tensor) => ({ ...drawMasks(tokens, targets, key, options) }));
  const [tokens, padding] = [randomTokens(1), paddedTargets()];
  const result = await draw(tokens, padding, key(1));
  const places = result.rows.shape[1] as number;
  assert.equal(places, Math.ceil(0.15 * T));
  const [hidden, random, kept] = [[0], [0], [0]] as [[number], [number], [number]];
  for (let b = 0; b < B; b++) {
    const text = T / 2 + b - 1; // without the first token, which is special
    const chosen = new Set<number>();
    for (let r = 0; r < places; r++) {
      const target = result.targets.data[b * places + r] as number;
      const at = result.rows.data[b * places + r] as number;
      if (target === -100) continue;
      chosen.add(at);
      assert.equal(target, tokens.data[b * T + at]);
      const shown = result.tokens.data[b * T + at];
      (shown === MASK ? hidden : shown === target ? kept : random)[0]++;
    }
    assert.equal(chosen.size, Math.floor(0.15 * text + 0.5), `row ${b}`);
    for (let t = 0; t < T; t++) {
      if (chosen.has(t)) assert.ok(t > 0 && t < T / 2 + b, "a special token or padding is hidden");
      else assert.equal(result.tokens.data[b * T + t], tokens.data[b * T + t]);
    }
  }
  const total = hidden[0] + random[0] + kept[0];
  // Four standard errors of some 900 draws; a random token equals the hidden one once in fifty.
  assert.ok(Math.abs(hidden[0] / total - 0.8) < 0.055, `${hidden[0]} of ${total} hidden`);
  assert.ok(Math.abs(random[0] / total - 0.098) < 0.04, `${random[0]} of ${total} random`);
  const again = await draw(tokens, padding, key(1));
  assert.deepEqual(again.tokens.data, result.tokens.data);
  assert.notDeepEqual((await draw(tokens, padding, key(2))).rows.data, result.rows.data);
});

test("whole words are hidden together", async () => {
  // Odd ids continue the word that the even id before them began: words of one to four tokens.
  const continues = Array.from({ length: V }, (_, id) => id > 4 && id % 2 === 1);
  const draw = jit((tokens: Tensor, key: Tensor) => ({
    ...drawMasks(tokens, undefined, key, { ...options, continues }),
  }));
  const tokens = randomTokens(2);
  const { rows, targets } = await draw(tokens, key(1));
  const places = rows.shape[1] as number;
  let cut = 0;
  for (let b = 0; b < B; b++) {
    const chosen = new Set<number>();
    for (let r = 0; r < places; r++)
      if (targets.data[b * places + r] !== -100) chosen.add(rows.data[b * places + r] as number);
    let torn = 0;
    for (let t = 1; t < T; t++) {
      const isOneWord = continues[tokens.data[b * T + t] as number] === true && t > 1;
      if (isOneWord && chosen.has(t) !== chosen.has(t - 1)) torn++;
    }
    assert.ok(torn <= 1, `row ${b}: ${torn} words are torn`);
    cut += torn;
  }
  assert.ok(cut < B, "only the last word of a row may be cut at its share");
});

test("BERT learns what is hidden from both sides", async () => {
  const config = bert.createConfig({ vocabSize: V, contextLength: 24, hiddenSize: 32, numLayers: 2, numHeads: 4 });
  const model = initModel(bert, config, { seed: 1 });
  const specs = bert.parameters(config);
  const step = new TrainStep(
    Object.fromEntries(model.params),
    {},
    {
      loss: maskedLm(bert, config, options),
      optimizer: createOptimizer("adamw", {}),
      clipNorm: 1,
      decay: (name) => specs[name]?.decay ?? false,
      accumulate: 1,
      seed: 0,
    },
  );
  // A row says one token over and over: what is hidden follows from any other place, before or after it.
  const random = new HostRandom(4);
  const batch = () => {
    const values = Array.from({ length: 16 }, () => {
      const first = random.int(V - 4);
      return new Array<number>(24).fill(4 + first);
    });
    return { arrays: { tokens: NdArray.int32([16, 24], values.flat()) }, tokenCount: 64, byteCount: 64 };
  };
  step.compile(batch());
  step.initialiseSlots();
  const losses: number[] = [];
  for (let i = 1; i <= 150; i++) losses.push((await step.run(i, 5e-3, [batch()])).loss);
  const late = losses.slice(-10).reduce((a, b) => a + b, 0) / 10;
  assert.ok(Math.abs((losses[0] as number) - Math.log(V)) < 0.3, `starts at ${losses[0]}`);
  assert.ok(late < 0.6 * Math.log(V), `from ${losses[0]} to ${late}`);
});

test("what does not fit is refused by name", async () => {
  const dials = { vocabSize: V, contextLength: 24, hiddenSize: 32, numLayers: 1, numHeads: 4 };
  assert.throws(() => maskedLm(gpt2, gpt2.createConfig(dials), options), {
    message:
      "masked-lm: gpt2 is a decoder: its tokens do not see what comes after them. Fix: use the objective causal-lm, or an encoder such as bert.",
  });
  const tokenizer = await trainBpe(["some text, some more text"], { vocabSize: 262 });
  assert.throws(() => maskingOf(tokenizer), {
    message: /masked-lm: the tokenizer has no mask token .* Fix: train one with it among the special tokens/,
  });
  const masked = await trainBpe(["some text, some more text"], { vocabSize: 262, specialTokens: ["[SEP]", "[MASK]"] });
  assert.ok(masked instanceof Tokenizer);
  const found = maskingOf(masked);
  assert.equal(masked.idToToken(found.maskTokenId), "[MASK]");
  assert.equal(found.specialIds?.length, 2);
  const model = initModel(bert, bert.createConfig({ ...dials, vocabSize: 262 }), { seed: 1 });
  await assert.rejects(generateText({ ...model, tokenizer: masked }, "some", { maxTokens: 2 }), {
    message: /generate: bert is an encoder, which does not predict the next token. Fix: use a decoder/,
  });
});
