import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import type { Backend } from "../../src/engine/backends/backend.ts";
import { evaluateDecomposition, evaluateOracle } from "../../src/engine/backends/evaluate.ts";
import { createBackend } from "../../src/engine/backends/index.ts";
import { builtVariants, loadNative } from "../../src/engine/backends/load-native.ts";
import { referenceBackend } from "../../src/engine/backends/reference.ts";
import { simplify } from "../../src/engine/compile/simplify.ts";
import { decodeFloat64 } from "../../src/engine/ir/convert.ts";
import type { NdArray } from "../../src/engine/ir/nd-array.ts";
import { type OpDef, registeredOps } from "../../src/engine/ir/op.ts";
import { sizeOf } from "../../src/engine/ir/shape.ts";
import type { TensorType } from "../../src/engine/ir/tensor.ts";
import "../../src/engine/ops/index.ts";
import { assertClose, buildCase, checkGradients, openNative, randomFor, runOn, toOracle } from "./contract-support.ts";

/** Set in the child processes that repeat the native part for the other instruction sets. */
const nativeOnly = process.env["PLINTH_CONTRACT_NATIVE_ONLY"] === "1";
const native = openNative();
const ops = registeredOps().filter((op) => op.samples.length > 0);

describe("definitions", { skip: nativeOnly }, () => {
  /** Ops for which some awkward size does not exist. */
  const fixedShape = new Set(["foldKey"]);
  const atLeastTwo = new Set(["rope"]);

  for (const op of registeredOps()) {
    if (op.lower.kind === "source") continue;
    test(`${op.name} has samples of the awkward sizes`, () => {
      const types = op.samples.map((s) => [...s.inputs, ...op.infer(s.inputs, s.attrs ?? {})]);
      assert.ok(types.length >= 3, "at least three samples");
      if (fixedShape.has(op.name)) return;
      const sizes = (t: readonly TensorType[]) => t.map(({ shape }) => sizeOf(shape));
      assert.ok(
        types.some((t) => sizes(t).includes(0)),
        "an empty sample",
      );
      assert.ok(
        types.some((t) => sizes(t).some((n) => n > 1 && n % 2 === 1)),
        "a sample of odd size",
      );
      if (atLeastTwo.has(op.name)) return;
      const outputs = op.samples.map((s) => sizes(op.infer(s.inputs, s.attrs ?? {})));
      assert.ok(
        outputs.some((s) => s.every((n) => n === 1)),
        "a sample of one element",
      );
    });

    test(`${op.name} has a gradient or says why not`, () => {
      if (typeof op.gradient !== "function") assert.ok(op.gradient.noGradient.length > 10);
    });
  }

  for (const op of ops.filter((o) => o.evaluate !== undefined && o.decompose !== undefined)) {
    test(`${op.name}: decomposition and direct evaluation agree`, () => {
      for (const sample of op.samples) {
        const { arrays } = buildCase(op, sample);
        const inputs = arrays.slice(0, sample.inputs.length).map(toOracle);
        const attrs = sample.attrs ?? {};
        const direct = op.evaluate?.(inputs, attrs, op.infer(sample.inputs, attrs)) ?? [];
        evaluateDecomposition(op, inputs, attrs).forEach((value, i) => {
          assertClose(value.data, direct[i]?.data ?? [], 1e-12, `${op.name}, ${sample.name}, output ${i}`);
        });
      }
    });
  }
});

describe("gradients against finite differences in float64", { skip: nativeOnly }, () => {
  for (const op of ops.filter((o) => typeof o.gradient === "function")) {
    test(op.name, () => {
      for (const sample of op.samples) {
        const { noGradientCheck, inputs } = sample;
        if (noGradientCheck !== undefined || inputs.some((x) => x.dtype === "bfloat16" || x.dtype === "float16"))
          continue;
        checkGradients(buildCase(op, sample), `${op.name}, ${sample.name}`, randomFor("directions", op.name));
      }
    });
  }
});

describe("reference backend", { skip: nativeOnly }, () => {
  for (const op of ops) test(op.name, () => checkBackend(op, referenceBackend));
});

describe("WebAssembly backend", { skip: nativeOnly }, () => {
  for (const op of ops) test(op.name, () => checkBackend(op, createBackend("wasm")));
});

describe("native backend", { skip: native === undefined ? "the native engine is not built here" : false }, () => {
  for (const op of ops) {
    test(op.name, () => checkBackend(op, native as Backend));
    test(`${op.name}: the same bits on one thread and on two`, () => checkThreads(op, native as Backend));
  }
});

/** Values and gradients of every sample against the oracle: from row-major, strided and donated inputs. */
async function checkBackend(op: OpDef, backend: Backend): Promise<void> {
  const mayReuse = op.lower.kind === "kernel" && op.lower.inPlace !== undefined;
  for (const sample of op.samples) {
    for (const strided of [false, true]) {
      const built = buildCase(op, sample, { strided });
      const what = `${op.name}, ${sample.name}${strided ? ", strided" : ""}`;
      const expected = evaluateOracle(built.graph.inputs, built.arrays.map(toOracle), built.graph.outputs);
      const tolerance = sample.tolerance ?? 1e-5;
      const compare = (actual: readonly NdArray[], how: string): void => {
        actual.forEach((array, i) => {
          const e = expected[i]?.data ?? new Float64Array();
          const isGradient = i >= built.valueCount;
          const largest = isGradient ? e.reduce((m, v) => Math.max(m, Math.abs(v)), 0) : 1;
          const part = isGradient ? `gradient of input ${built.gradientOf[i - built.valueCount]}` : `output ${i}`;
          assertClose(decodeFloat64(array.dtype, array.data), e, tolerance, `${what}${how}, ${part}`, largest);
        });
      };
      compare(await runOn(backend, { ...built, graph: simplify(built.graph) }), "");
      if (!mayReuse) continue;
      const donated = new Set(built.arrays.keys());
      const valuesOnly = built.graph.outputs.slice(0, built.valueCount);
      for (const outputs of [built.graph.outputs, valuesOnly]) {
        const graph = simplify({ ...built.graph, outputs, donated });
        compare(await runOn(backend, { ...built, graph }), ", donated");
      }
    }
  }
}

async function checkThreads(op: OpDef, backend: Backend): Promise<void> {
  const before = backend.threads?.() ?? 1;
  try {
    for (const sample of op.samples) {
      const built = buildCase(op, sample);
      const program = backend.compile(simplify(built.graph));
      const results: NdArray[][] = [];
      for (const threads of [1, 2]) {
        backend.setThreads?.(threads);
        results.push(await program.run(built.arrays));
      }
      results[0]?.forEach((array, i) => {
        assert.deepEqual(
          bytesOf(results[1]?.[i] as NdArray),
          bytesOf(array),
          `${op.name}, ${sample.name}, output ${i}`,
        );
      });
    }
  } finally {
    backend.setThreads?.(before);
  }
}

function bytesOf(array: NdArray): Uint8Array {
  return new Uint8Array(array.data.buffer, array.data.byteOffset, array.data.byteLength);
}

describe("the other instruction sets", { skip: nativeOnly || native === undefined }, () => {
  if (nativeOnly || native === undefined) return;
  const addon = loadNative();
  for (const variant of builtVariants().filter((name) => name !== addon.isa())) {
    let beyond: string | false = false;
    try {
      loadNative(variant);
    } catch (error) {
      beyond = (error as Error).message;
    }
    test(variant, { skip: beyond }, () => {
      const { NODE_TEST_CONTEXT: _, ...env } = process.env;
      for (const file of ["contract.test.js", "contract-fuzz.test.js"]) {
        const child = spawnSync(process.execPath, [fileURLToPath(new URL(file, import.meta.url))], {
          env: { ...env, PLINTH_ISA: variant, PLINTH_CONTRACT_NATIVE_ONLY: "1" },
          encoding: "utf8",
        });
        assert.equal(child.status, 0, `${variant}: ${child.stdout.slice(-4000)}${child.stderr.slice(-1000)}`);
      }
    });
  }
});
