import assert from "node:assert/strict";
import { sha256 } from "../../src/base/index.ts";
import { vjp } from "../../src/engine/autodiff/index.ts";
import type { Backend } from "../../src/engine/backends/backend.ts";
import { evaluateOracle } from "../../src/engine/backends/evaluate.ts";
import { createBackend } from "../../src/engine/backends/index.ts";
import { NativeMissingError } from "../../src/engine/backends/load-native.ts";
import { decodeFloat64, encodeHost } from "../../src/engine/ir/convert.ts";
import { isFloating } from "../../src/engine/ir/dtype.ts";
import type { Graph } from "../../src/engine/ir/graph.ts";
import { NdArray } from "../../src/engine/ir/nd-array.ts";
import type { OpDef, OpSample, Oracle, SampleInput } from "../../src/engine/ir/op.ts";
import { sizeOf } from "../../src/engine/ir/shape.ts";
import { apply, type Tensor } from "../../src/engine/ir/tensor.ts";
import { transpose } from "../../src/engine/ops/index.ts";
import { padOp, sliceOp } from "../../src/engine/ops/slice.ts";
import { input } from "../../src/engine/ops/source.ts";
import { HostRandom } from "../../src/engine/random.ts";

/** The native backend, or undefined where it has not been built. */
export function openNative(): Backend | undefined {
  try {
    return createBackend("native");
  } catch (error) {
    if (error instanceof NativeMissingError) return undefined;
    throw error;
  }
}

/** A generator of its own for each name: adding a sample changes no other. */
export function randomFor(...names: string[]): HostRandom {
  return new HostRandom(Number.parseInt(sha256(names.join("/")).slice(0, 12), 16));
}

/** A value for a sample's input, already rounded to its element type. */
export function generate(spec: SampleInput, random: HostRandom): NdArray {
  const n = sizeOf(spec.shape);
  const { low, high } = spec;
  const draw = (): number => {
    if (spec.dtype === "bool") return random.int(2);
    if (spec.dtype === "int32") return (low ?? 0) + random.int((high ?? 10) - (low ?? 0));
    return low === undefined || high === undefined ? random.normal() : low + (high - low) * random.uniform();
  };
  const values = Array.from({ length: n }, (_, i) => spec.values?.[i] ?? draw());
  return new NdArray(spec.dtype, spec.shape, encodeHost(spec.dtype, values));
}

export function toOracle(array: NdArray): Oracle {
  return { shape: array.shape, dtype: array.dtype, data: decodeFloat64(array.dtype, array.data) };
}

/** One sample of an op made ready: a graph of its outputs and of the gradients of a random projection of them. */
export interface Case {
  readonly graph: Graph;
  /** Values of the sample's inputs, then of the cotangents. */
  readonly arrays: readonly NdArray[];
  readonly sampleInputs: number;
  readonly valueCount: number;
  /** For each gradient among the outputs (from `valueCount` on): the input it belongs to. */
  readonly gradientOf: readonly number[];
}

/**
 * Builds the graph of a sample. With `strided`, inputs with two axes or more arrive transposed and with a margin, and
 * the graph undoes both through views, so that the op reads memory that is not row-major.
 */
export function buildCase(op: OpDef, sample: OpSample, options: { strided?: boolean } = {}): Case {
  const random = randomFor(op.name, sample.name);
  const plain = sample.inputs.map((spec) => generate(spec, random));
  const arrays: NdArray[] = [];
  const inputs: Tensor[] = [];
  const operands = plain.map((array) => {
    const isMoved = options.strided === true && array.shape.length >= 2;
    const held = isMoved ? moved(array) : array;
    arrays.push(held);
    const t = input(held);
    inputs.push(t);
    return isMoved ? unmoved(t) : t;
  });
  const outputs = apply(op, operands, sample.attrs ?? {});
  const [values] = [
    evaluateOracle(
      operands.map((t, i) => inputs[i] ?? t),
      arrays.map(toOracle),
      outputs,
    ),
  ];
  // Where an output is infinite (the log-sum-exp of no keys) its cotangent is zero.
  const cotangents = outputs.map((t, i) => {
    if (!isFloating(t.dtype)) return undefined;
    const finite = (values as Oracle[])[i]?.data ?? [];
    const weights = Array.from(finite, (v) => (Number.isFinite(v) ? random.normal() : 0));
    const array = NdArray.float32(t.shape, weights);
    arrays.push(array);
    const cotangent = input(array);
    inputs.push(cotangent);
    return cotangent;
  });
  const wanted = operands.filter((t) => isFloating(t.dtype));
  const isDifferentiable = typeof op.gradient === "function" && cotangents.some((t) => t !== undefined);
  const found = isDifferentiable ? vjp(outputs, cotangents, wanted) : [];
  const gradientOf: number[] = [];
  const gradients: Tensor[] = [];
  wanted.forEach((t, i) => {
    const gradient = found[i];
    if (gradient === undefined) return;
    gradients.push(gradient);
    gradientOf.push(operands.indexOf(t));
  });
  const graph: Graph = {
    inputs,
    inputNames: inputs.map((_, i) => `x${i}`),
    outputs: [...outputs, ...gradients],
    donated: new Set(),
  };
  return { graph, arrays, sampleInputs: plain.length, valueCount: outputs.length, gradientOf };
}

/** The array with its axes reversed and one row of margin on each side of the first axis. */
function moved(array: NdArray): NdArray {
  const t = input(array);
  const reversed = transpose(
    t,
    array.shape.map((_, i) => array.shape.length - 1 - i),
  );
  const margin = array.shape.map((_, i) => (i === 0 ? 1 : 0));
  const [padded] = apply(padOp, [reversed], { low: margin, high: margin }) as [Tensor];
  const [value] = evaluateOracle([t], [toOracle(array)], [padded]) as [Oracle];
  return new NdArray(array.dtype, padded.shape, encodeHost(array.dtype, value.data));
}

function unmoved(t: Tensor): Tensor {
  const [inner] = apply(sliceOp, [t], {
    starts: t.shape.map((_, i) => (i === 0 ? 1 : 0)),
    limits: t.shape.map((n, i) => (i === 0 ? n - 1 : n)),
  }) as [Tensor];
  return transpose(
    inner,
    inner.shape.map((_, i) => inner.rank - 1 - i),
  );
}

/** Runs a graph on a backend, on copies of the arrays, so that donated ones survive. */
export async function runOn(backend: Backend, { graph, arrays }: Pick<Case, "graph" | "arrays">): Promise<NdArray[]> {
  return backend.compile(graph).run(arrays.map((a) => new NdArray(a.dtype, a.shape, a.data.slice())));
}

/** Asserts |actual - expected| <= tolerance * max(1, |expected|, `scale`) for every element. */
export function assertClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
  what: string,
  scale = 1,
): void {
  assert.equal(actual.length, expected.length, `${what}: length`);
  for (let i = 0; i < expected.length; i++) {
    const [a, e] = [actual[i] as number, expected[i] as number];
    if (Object.is(a, e) || a === e) continue;
    const limit = tolerance * Math.max(1, scale, Math.abs(e));
    if (!(Math.abs(a - e) <= limit)) assert.fail(`${what}: element ${i}: expected ${e}, got ${a} (limit ${limit})`);
  }
}

/**
 * Compares gradients with central differences of the projected outputs in float64, along random directions per input.
 * A direction mixes all elements, so one wrong element shows.
 */
export function checkGradients(test: Case, what: string, random: HostRandom): void {
  const given = test.arrays.map(toOracle);
  const all = evaluateOracle(test.graph.inputs, given, test.graph.outputs);
  const outputs = test.graph.outputs.slice(0, test.valueCount);
  const weights = given.slice(test.sampleInputs);
  const project = (values: readonly Oracle[]): number => {
    let total = 0;
    let next = 0;
    evaluateOracle(test.graph.inputs, values, outputs).forEach((y) => {
      if (!isFloating(y.dtype)) return;
      const r = (weights[next++] as Oracle).data;
      for (let i = 0; i < r.length; i++) if (r[i] !== 0) total += (r[i] as number) * (y.data[i] as number);
    });
    return total;
  };
  const sampleInputs = test.graph.inputs.slice(0, test.sampleInputs);
  sampleInputs.forEach((t, inputIndex) => {
    if (!isFloating(t.dtype)) return;
    const position = test.gradientOf.indexOf(inputIndex);
    const gradient = position < 0 ? undefined : (all[test.valueCount + position] as Oracle);
    const x = given[inputIndex] as Oracle;
    for (let direction = 0; direction < 2; direction++) {
      const d = Float64Array.from({ length: x.data.length }, () => random.normal());
      const h = 1e-5;
      const shifted = (sign: number): number =>
        project(
          given.map((v, i) =>
            i === inputIndex ? { ...v, data: v.data.map((a, j) => a + sign * h * (d[j] as number)) } : v,
          ),
        );
      const numeric = (shifted(1) - shifted(-1)) / (2 * h);
      let analytic = 0;
      let scale = 1;
      gradient?.data.forEach((g, j) => {
        analytic += g * (d[j] as number);
        scale += Math.abs(g * (d[j] as number));
      });
      const difference = Math.abs(numeric - analytic);
      assert.ok(
        difference <= 1e-6 * scale,
        `${what}: input ${inputIndex}: finite differences give ${numeric}, the gradient ${analytic}`,
      );
    }
  });
}
