/**
 * Every head of every architecture against the reference (test/golden/make_goldens.py, `heads`): logits, the loss of the objective
 * that goes with it, every gradient, ten AdamW steps; on padded pairs of texts.
 */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import {
  add,
  type Backend,
  cast,
  div,
  expandDims,
  jit,
  mul,
  NdArray,
  notEqual,
  reshape,
  square,
  sum,
  type Tensor,
  unflatten,
  valueAndGrad,
} from "../../src/engine/index.ts";
import { headOf, type Model } from "../../src/models/index.ts";
import {
  addNextSentence,
  classLoss,
  type LossFunction,
  nextSentence,
  questionAnswering,
  sequenceClassification,
  tokenClassification,
} from "../../src/train/index.ts";
import { adamwLosses, backends, goldenDir, loadGolden, relativeError } from "./support.ts";

type Flat = Record<string, Tensor>;
const cases = readdirSync(join(goldenDir, "heads")).map((name) => `heads/${name}`);

/** The objective of the model's head; those without one here get what the golden file was made with. */
function lossOf({ family, config }: Model): LossFunction {
  switch (headOf(config).kind) {
    case "sequence-classification":
      return sequenceClassification(family, config);
    case "token-classification":
      return tokenClassification(family, config);
    case "question-answering":
      return questionAnswering(family, config);
    case "next-sentence":
      return nextSentence(family, config);
  }
  return (flat, _, batch) => {
    const { targets, segments } = batch as { targets: Tensor; segments: Tensor };
    const inputs = { ...batch, tokens: batch["tokens"] as Tensor };
    const outputs = family.forward(unflatten(Object.entries(flat)), inputs, config);
    if (headOf(config).kind === "pretraining") {
      const masked = classLoss(reshape(outputs.logits, [-1, config.vocabSize]), reshape(targets, [-1]));
      return addNextSentence(masked, outputs.nextSentence as Tensor, batch["nextSentence"] as Tensor);
    }
    const isText = expandDims(cast(notEqual(segments, 0), "float32"), 2);
    const hidden = sum(square(mul(outputs.logits, isText)));
    const pooled = outputs.pooled === undefined ? 0 : sum(square(outputs.pooled));
    return { lossSum: add(hidden, pooled), tokenCount: cast(sum(mul(isText, 0)), "float32") };
  };
}

/** A golden model, its batch, and what the reference says. */
async function load(name: string) {
  const { model, value } = await loadGolden(name);
  const optional = (key: string): NdArray | undefined => {
    try {
      return value(key);
    } catch {
      return undefined;
    }
  };
  const tokens = value("tokens");
  const [B, T] = tokens.shape as [number, number];
  const lengths = value("lengths").data;
  const isText = Int32Array.from({ length: B * T }, (_, i) => Number(i % T < (lengths[Math.floor(i / T)] as number)));
  const extras = {
    tokenTypes: optional("tokenTypes"),
    targets: optional("targets"),
    nextSentence: optional("nextSentence.targets"),
  };
  const given = Object.entries(extras).filter(([, array]) => array !== undefined);
  const batch = {
    tokens,
    segments: NdArray.int32([B, T], isText),
    ...(Object.fromEntries(given) as Record<string, NdArray>),
  };
  const loss = lossOf(model);
  const isSum = headOf(model.config).kind === "none";
  const mean = (flat: Flat, batch: Flat): Tensor => {
    const { lossSum, tokenCount } = loss(flat, {}, batch, undefined);
    return isSum ? lossSum : div(lossSum, tokenCount);
  };
  return { model, value, optional, batch, mean, isText };
}

// One backend knows all cases; that backends agree is known from the language models.
for (const { name: backendName, backend, skip } of backends.filter(({ name }) => name === "native")) {
  suite(`golden heads, ${backendName}`, { skip }, () => {
    const on = backend as Backend;
    for (const name of cases) {
      test(`${name}: logits, loss, gradients, ten AdamW steps`, async () => {
        const { model, value, optional, batch, mean, isText } = await load(name);
        const { family, config, params } = model;
        const forward = jit(
          (flat: Flat, batch: Flat) => {
            const inputs = { ...batch, tokens: batch["tokens"] as Tensor };
            const { logits, nextSentence, pooled } = family.forward(unflatten(Object.entries(flat)), inputs, config);
            return { logits, ...(nextSentence && { nextSentence }), ...(pooled && { pooled }) };
          },
          { backend: on },
        );
        const outputs = await forward(Object.fromEntries(params), batch);
        for (const [key, array] of Object.entries(outputs)) {
          const width = array.shape.at(-1) as number;
          const data = (array.data as Float32Array).map((x, i) =>
            array.shape.length < 3 || isText[Math.floor(i / width)] === 1 ? x : 0,
          );
          const error = relativeError(NdArray.float32(array.shape, data), value(key));
          assert.ok(error <= 1e-5, `${key}: ${error}`);
        }
        for (const key of ["nextSentence", "pooled"]) assert.equal(key in outputs, optional(key) !== undefined, key);

        const step = jit((flat: Flat, batch: Flat) => valueAndGrad((flat: Flat) => mean(flat, batch))(flat), {
          backend: on,
        });
        const { value: loss, grads } = await step(Object.fromEntries(params), batch);
        assert.ok(relativeError(loss, value("loss")) <= 1e-5, `loss ${loss.item()}`);
        const prefix = family.checkpoint.optionalPrefix ?? "";
        const scale = Math.max(...Object.values(grads).map(({ data }) => largest(data)));
        for (const [parameter, gradient] of Object.entries(grads)) {
          const expected = optional(`grad.${parameter}`) ?? value(`grad.${parameter.slice(prefix.length)}`);
          // Zero but for rounding: a bias of the keys shifts all scores alike.
          if (largest(expected.data) < 1e-7 * Math.max(1, scale)) {
            assert.ok(largest(gradient.data) < 1e-6 * Math.max(1, scale), parameter);
            continue;
          }
          const error = relativeError(gradient, expected);
          assert.ok(error <= 1e-4, `${parameter}: ${error}`);
        }

        const settings = { lr: 3e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1, maxGradNorm: 1 };
        const losses = await adamwLosses(model, batch, { ...settings, steps: 10, backend: on }, mean);
        losses.forEach((loss, i) => {
          const expected = value("adamw_losses").data[i] as number;
          assert.ok(Math.abs(loss - expected) <= 1e-4 * expected, `step ${i}: ${loss}, expected ${expected}`);
        });
      });
    }
  });
}

function largest(data: ArrayLike<number>): number {
  let most = 0;
  for (let i = 0; i < data.length; i++) most = Math.max(most, Math.abs(data[i] as number));
  return most;
}
