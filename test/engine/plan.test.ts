import assert from "node:assert/strict";
import { test } from "node:test";
import { compileProgram } from "../../src/engine/compile/compile-program.ts";
import { lower } from "../../src/engine/compile/lower.ts";
import { planMemory } from "../../src/engine/compile/memory-plan.ts";
import type { Instruction, Operand } from "../../src/engine/compile/program.ts";
import { storageCode } from "../../src/engine/compile/program.ts";
import { simplify } from "../../src/engine/compile/simplify.ts";
import {
  add,
  cacheUpdate,
  concat,
  constant,
  createBackend,
  dequantize,
  exp,
  type Graph,
  gelu,
  HostRandom,
  input,
  jit,
  layerNorm,
  matmul,
  max,
  mean,
  mul,
  NdArray,
  packingOf,
  quantizedMatmul,
  quantizeWeight,
  relu,
  reshape,
  rope,
  type Shape,
  slice,
  softmax,
  split,
  sub,
  sum,
  type Tensor,
  tanh,
  transpose,
  verifyGraph,
} from "../../src/engine/index.ts";
import { toyShapes, toySpecs, toyStep } from "./toy-transformer.ts";

const float = (...shape: number[]): Tensor => input({ shape, dtype: "float32" });

function graphOf(inputs: Tensor[], outputs: Tensor[], donated: number[] = []): Graph {
  return simplify({ inputs, inputNames: inputs.map((_, i) => `x${i}`), outputs, donated: new Set(donated) });
}

function compile(inputs: Tensor[], outputs: Tensor[], donated: number[] = []) {
  return compileProgram(graphOf(inputs, outputs, donated)).spec;
}

function kernels(inputs: Tensor[], outputs: Tensor[], donated: number[] = []): string[] {
  return compile(inputs, outputs, donated).instructions.map((instruction) => instruction.kernel);
}

test("fusion: a chain of elementwise ops with broadcasts is one kernel", () => {
  const x = float(8, 16);
  const bias = float(16);
  assert.deepEqual(kernels([x, bias], [gelu(mul(add(x, bias), 2))]), ["fused"]);
});

test("fusion: several consumers and several outputs share one kernel", () => {
  const x = float(64, 64);
  const y = exp(x);
  const spec = compile([x], [add(y, 1), mul(y, x), y]);
  assert.deepEqual(
    spec.instructions.map(({ kernel, outputs }) => [kernel, outputs.length]),
    [["fused", 3]],
  );
});

test("fusion: trailing reductions join, others are a kernel of their own", () => {
  const x = float(8, 16);
  assert.deepEqual(kernels([x], [sum(exp(x), { axes: [1] })]), ["fused"]);
  assert.deepEqual(kernels([x], [sum(exp(x))]), ["fused"]);
  assert.deepEqual(kernels([x], [max(exp(x), { axes: [1], keepDims: true })]), ["fused"]);
  assert.deepEqual(kernels([x], [sum(exp(x), { axes: [0] })]), ["fused", "reduce"]);
  assert.deepEqual(kernels([x], [sum(x, { axes: [1] })]), ["reduce"]);
  assert.deepEqual(kernels([x], [softmax(x)]), ["reduce", "fused", "fused"]);
});

test("fusion: groups never depend on each other in a circle", () => {
  const x = float(64, 64);
  const a = exp(x);
  const rows = sum(a, { axes: [1], keepDims: true });
  // `a` and the sum both meet in the last op, but the sum is ready only after `a`.
  assert.deepEqual(kernels([x], [sub(a, rows)]), ["fused", "fused"]);
  const product = matmul(a, a);
  // The product's own epilogue adds what it was made of.
  assert.deepEqual(kernels([x], [add(a, product)]), ["fused", "matmul"]);
});

test("fusion: siblings that read the same tensor share the pass over it", () => {
  const x = float(64, 64);
  const y = float(64, 64);
  assert.deepEqual(kernels([x, y], [mul(exp(x), y), add(tanh(x), y)]), ["fused"]);
  // A sum of its own is computed the same way whatever stands beside it.
  assert.deepEqual(kernels([x], [sum(x, { axes: [1] }), exp(x)]), ["reduce", "fused"]);
  assert.deepEqual(kernels([x], [exp(x), sum(x, { axes: [1] })]), ["fused", "reduce"]);
});

test("fusion: a cheap value is computed again rather than stored, an expensive one is not", () => {
  const x = float(64, 64);
  const w = float(64, 64);
  const bias = float(64);
  const outputs = (f: (t: Tensor) => Tensor): Tensor[] => {
    const h = f(concat(split(x, 2, { axis: 1 }).reverse(), { axis: 1 }));
    const product = matmul(relu(h), w);
    return [mul(product, h)];
  };
  const stored = (f: (t: Tensor) => Tensor): number[] =>
    compile([x, w, bias], outputs(f)).instructions.map((i) => i.outputs.length);
  assert.deepEqual(
    stored((t) => add(t, bias)),
    [1, 1, 1],
  );
  assert.deepEqual(
    stored((t) => exp(t)),
    [1, 2, 1],
  );
});

test("fusion: operand counts are bounded", () => {
  const inputs = Array.from({ length: 40 }, () => float(32, 32));
  const total = inputs.reduce((a, b) => add(a, b));
  const spec = compile(inputs, [total]);
  assert.ok(spec.instructions.length > 1);
  for (const { inputs: operands } of spec.instructions) assert.ok(operands.length <= 12, `${operands.length} operands`);
});

test("layout: views cost nothing where strides can express them", () => {
  const x = float(2, 6, 12);
  const w = float(12, 12);
  assert.deepEqual(kernels([x, w], [matmul(x, w, { transposeB: true })]), ["matmul"]);
  const [q, k] = split(x, [8, 4], { axis: 2 }) as [Tensor, Tensor];
  assert.deepEqual(kernels([x], [exp(q), exp(k)]), ["fused", "fused"]);
  assert.deepEqual(kernels([x], [exp(transpose(slice(x, { starts: [0, 1], limits: [2, 5] }), [2, 0, 1]))]), ["fused"]);
  // Columns of the wide tensor read through strides, heads apart.
  const heads = transpose(reshape(q, [2, 6, 2, 4]), [0, 2, 1, 3]);
  assert.deepEqual(kernels([x], [matmul(heads, heads, { transposeB: true })]), ["matmul"]);
});

test("layout: a copy is made once where a kernel or a reshape needs row-major memory", () => {
  const x = float(4, 6);
  const turned = transpose(x, [1, 0]);
  assert.deepEqual(kernels([x], [exp(reshape(turned, [24]))]), ["copy", "fused"]);
  const w = float(4);
  const normed = [1, 2].map((scale) => layerNorm(turned, mul(w, scale), w, { eps: 1e-5 }));
  assert.equal(kernels([x, w], normed).filter((name) => name === "copy").length, 1);
});

test("layout: neighbouring axes merge so that inner loops are long", () => {
  const x = float(4, 5, 6);
  const bias = float(6);
  const spec = compile([x, bias], [exp(add(x, bias)), tanh(x)]);
  assert.deepEqual(spec.instructions[0]?.inputs[0]?.shape, [20, 6]);
  const plain = compile([x], [exp(x)]);
  assert.deepEqual(plain.instructions[0]?.inputs[0]?.shape, [120]);
});

/** Byte range of an operand of the arena. */
function range(operand: Operand): [number, number] {
  const size = operand.shape.reduce((n, s) => n * s, 1);
  return [operand.byteOffset, operand.byteOffset + (size === 0 ? 0 : 4)];
}

test("memory: what is alive at the same time does not overlap", () => {
  const config = { layers: 3, width: 32, heads: 4, vocabulary: 50, context: 8, batch: 2 };
  const graph = jit(toyStep(config), { donate: [0], backend: createBackend("reference") }).compile(
    ...toySpecs(config),
  ).graph;
  const lowered = lower(graph);
  const plan = planMemory(lowered, graph.donated);
  const last = new Map<unknown, number>();
  plan.steps.forEach((step, i) => {
    for (const view of step.inputs) last.set(view.buffer, i);
  });
  const live: { start: number; end: number; until: number; buffer: unknown }[] = [];
  let checked = 0;
  plan.steps.forEach((step, i) => {
    for (const { buffer } of step.outputs) {
      const place = plan.places.get(buffer);
      if (place?.kind !== "arena") continue;
      assert.equal(place.offset % 64, 0);
      assert.ok(place.offset + buffer.bytes <= plan.arenaBytes);
      const start = place.offset;
      const end = start + buffer.bytes;
      for (const other of live) {
        if (other.until < i || other.end <= start || end <= other.start) continue;
        // Only a kernel that works in place may write where it still reads.
        assert.equal(other.until, i, "overwrites memory that is read later");
        const output = step.outputs.findIndex((view) => view.buffer === buffer);
        const allowed = step.inPlace.some(([o, from]) => o === output && step.inputs[from]?.buffer === other.buffer);
        assert.ok(allowed, `${step.kernel} overwrites its input`);
        assert.deepEqual([other.start, other.end], [start, end]);
      }
      checked++;
      live.push({ start, end, until: last.get(buffer) ?? i, buffer });
    }
  });
  assert.ok(checked > 100);
  const distinct = live.reduce((sum, { start, end }) => sum + end - start, 0);
  assert.ok(plan.arenaBytes < distinct / 2, `${plan.arenaBytes} of ${distinct} bytes`);
});

test("memory: elementwise kernels overwrite an input that dies", () => {
  const x = float(64, 64);
  const spec = compile([x], [matmul(exp(concat(split(x, 2, { axis: 1 }).reverse(), { axis: 1 })), x)]);
  const fused = spec.instructions.find((instruction) => instruction.kernel === "fused") as Instruction;
  assert.deepEqual(range(fused.inputs[0] as Operand), range(fused.outputs[0] as Operand));
  assert.equal(spec.arenaBytes, 64 * 64 * 4);
});

test("memory: donated inputs are updated in place and returned", () => {
  const x = float(4, 4);
  const g = float(4, 4);
  const spec = compile([x, g], [sub(x, mul(g, 0.1)), mean(g)], [0]);
  assert.equal(spec.outputs[0]?.aliasInput, 0);
  assert.equal(spec.outputs[1]?.aliasInput, undefined);
  assert.equal(spec.arenaBytes, 0);
  assert.equal(compile([x, g], [sub(x, mul(g, 0.1))]).outputs[0]?.aliasInput, undefined);
});

test("memory: a cache is updated in place", () => {
  const cache = float(2, 8, 4);
  const update = float(2, 1, 4);
  const start = input({ shape: [2], dtype: "int32" });
  const spec = compile([cache, update, start], [cacheUpdate(cache, update, start)], [0]);
  assert.deepEqual(
    spec.instructions.map(({ kernel }) => kernel),
    ["cache_update"],
  );
  assert.equal(spec.outputs[0]?.aliasInput, 0);
  assert.equal(spec.instructions[0]?.outputs[0]?.storage, storageCode.input);
});

// Programs whose outputs and donations tangle, run natively against the reference.
const n = 6;
const tangled: [name: string, build: (x: Tensor, y: Tensor) => Tensor[]][] = [
  ["a donated input read after its update", (x, y) => [add(x, y), matmul(x, y)]],
  ["a donated input updated twice", (x, y) => [add(x, y), sub(x, y)]],
  ["a donated input updated in a chain", (x, y) => [add(exp(matmul(add(x, y), y)), x)]],
  ["a donated input as it is, and used", (x, y) => [x, add(x, y)]],
  ["inputs exchanged", (x, y) => [y, x]],
  ["one output twice", (x, y) => [add(x, y), add(x, y)]],
  ["an output and a view of it", (x, y) => ((z) => [z, transpose(z, [1, 0])])(add(x, y))],
  ["a view of an input", (x) => [transpose(x, [1, 0]), slice(x, { starts: [1, 1], limits: [3, 3] })]],
  ["parts of one tensor", (x, y) => split(matmul(x, y), 2, { axis: 0 })],
  ["a reshaped donated input", (x) => [reshape(x, [n * n])]],
  ["constants", (x) => [constant([1, 2, 3]), add(x, constant([1, 2, 3, 4, 5, 6]))]],
  ["an updated input that another update reads", (x, y) => [add(x, transpose(x, [1, 0])), mul(x, y)]],
  ["an intermediate that is an output and read on", (x, y) => ((z) => [z, exp(z), matmul(z, y)])(sub(x, y))],
  [
    "a kernel that works in place, on a transposed tensor",
    (x) => {
      const turned = transpose(reshape(exp(x), [1, 2, 3, 6]), [0, 2, 1, 3]);
      return [rope(turned, constant([1, 2, 3], { shape: [1, 3], dtype: "int32" }), constant([1, 0.1, 0.01]))];
    },
  ],
  ["broadcast output", (x) => [add(mul(x, 0), 3), sum(x)]],
];
for (const [name, build] of tangled) {
  for (const donate of [[], [0], [0, 1]]) {
    test(`memory: ${name}${donate.length > 0 ? `, donating ${donate.join(" and ")}` : ""}`, async () => {
      const f = (x: Tensor, y: Tensor): Tensor[] => build(x, y);
      const data = (seed: number): NdArray =>
        NdArray.float32(
          [n, n],
          Array.from({ length: n * n }, (_, i) => Math.sin(seed + i * 0.7) / 2),
        );
      const results: NdArray[][] = [];
      for (const backend of ["native", "reference"] as const) {
        const compiled = jit(f, { donate, backend: createBackend(backend) });
        const x = data(1);
        const y = data(2);
        const kept = [x, y]
          .filter((_, i) => !(donate as number[]).includes(i))
          .map((a) => [a, Array.from(a.data)] as const);
        results.push(await compiled(x, y));
        for (const [array, before] of kept)
          assert.deepEqual(Array.from(array.data), before, "an input was overwritten");
      }
      const [native, reference] = results as [NdArray[], NdArray[]];
      reference.forEach((expected, i) => {
        const actual = native[i] as NdArray;
        assert.deepEqual(actual.shape, expected.shape as Shape);
        expected.data.forEach((value, k) => {
          assert.ok(Math.abs((actual.data[k] as number) - value) < 1e-5, `output ${i}, element ${k}`);
        });
      });
      const memory = new Set(native.map((array) => array.data.buffer));
      assert.equal(memory.size, native.length, "outputs share memory");
    });
  }
}

test("a training step becomes few kernels: no transpose is moved, no bias or activation stands alone", () => {
  const layers = 12;
  const config = { layers, width: 32, heads: 4, vocabulary: 50, context: 8, batch: 2 };
  const { graph } = jit(toyStep(config), { donate: [0], backend: createBackend("reference") }).compile(
    ...toySpecs(config),
  );
  verifyGraph(graph);
  const { spec, stats } = compileProgram(graph);
  const count = (kernel: string): number => spec.instructions.filter((i) => i.kernel === kernel).length;
  assert.equal(count("matmul"), 3 * (4 * layers + 1));
  assert.equal(count("copy"), 1, "only the constant cotangent of the mean is written out");
  assert.equal(count("attention_grad"), layers);
  const forward = spec.instructions.slice(
    0,
    spec.instructions.findIndex((i) => i.kernel === "cross_entropy"),
  );
  assert.ok(forward.length <= 12 * layers + 8, `${forward.length} kernels forward`);
  assert.ok(stats.instructions <= 60 * layers, `${stats.instructions} kernels in all`);
  // Parameters and moments are updated where they are.
  const aliases = spec.outputs.map((output) => output.aliasInput).filter((input) => input !== undefined);
  assert.equal(new Set(aliases).size, 3 * Object.keys(toyShapes(config)).length);
});

test("flops: matrix products and attention are counted", () => {
  const x = float(5, 6);
  const w = float(6, 7);
  assert.equal(compileProgram(graphOf([x], [exp(x)])).stats.flops, 0);
  assert.equal(compileProgram(graphOf([x, w], [matmul(x, w)])).stats.flops, 2 * 5 * 6 * 7);
  const product = matmul(x, w);
  const several = compileProgram(graphOf([x, w], [product, exp(product)]));
  assert.deepEqual(
    [several.stats.instructions, several.stats.flops],
    [1, 2 * 5 * 6 * 7],
    "an epilogue's outputs count once",
  );
});

test("a program that cannot fit says so before it runs", () => {
  const x = float(1024, 1024);
  const graph = graphOf([x], [matmul(exp(x), x)]);
  process.env["PLINTH_MEMORY_LIMIT"] = "6000000";
  try {
    assert.throws(
      () => compileProgram(graph),
      /out of memory before start: the program needs 12\.0 MiB \(intermediates 4\.0 MiB, outputs 4\.0 MiB, inputs 4\.0 MiB\) but PLINTH_MEMORY_LIMIT allows 5\.7 MiB\. Fix: use a smaller batch size/,
    );
    process.env["PLINTH_MEMORY_LIMIT"] = "plenty";
    assert.throws(() => compileProgram(graph), /PLINTH_MEMORY_LIMIT: expected a number of bytes, got "plenty"/);
  } finally {
    delete process.env["PLINTH_MEMORY_LIMIT"];
  }
  const huge = float(1 << 20, 1 << 20);
  assert.throws(
    () => compileProgram(graphOf([huge], [exp(huge)])),
    /out of memory before start.*but only .* is available/,
  );
});

test("quantised products of one input are one call, with the bits that each has alone", async () => {
  const layout = { format: "int4", groupSize: 32, outSize: 70, inSize: 64 } as const;
  const { words } = packingOf(layout);
  const weights = [input({ shape: [words], dtype: "int32" }), input({ shape: [words], dtype: "int32" })];
  const x = float(5, 64);
  const spec = compile(
    [x, ...weights],
    weights.map((weight) => quantizedMatmul(x, weight, layout)),
  );
  assert.deepEqual(
    spec.instructions.map(({ kernel, inputs, outputs }) => [kernel, inputs.length, outputs.length]),
    [["quantized_matmul", 3, 2]],
  );
  const random = new HostRandom(3);
  const normal = (shape: Shape): NdArray =>
    NdArray.float32(
      shape,
      Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => random.normal()),
    );
  const [a, b] = [0, 1].map(() => quantizeWeight(normal([70, 64]), { format: "int4", groupSize: 32 }).words);
  for (const rows of [1, 3, 5, 40]) {
    const given = normal([rows, 64]);
    const product = jit((x: Tensor, ...weights: Tensor[]) =>
      weights.map((weight) => quantizedMatmul(x, weight, layout)),
    );
    const together = await product(given, a as NdArray, b as NdArray);
    assert.deepEqual(together[0]?.data, (await product(given, a as NdArray))[0]?.data);
    assert.deepEqual(together[1]?.data, (await product(given, b as NdArray))[0]?.data);
  }
});

test("quantised weights are unpacked right before they are read", () => {
  const layout = { format: "nf4", groupSize: 32, outSize: 8, inSize: 32 } as const;
  const words = input({ shape: [packingOf(layout).words], dtype: "int32" });
  const x = float(4, 8);
  const weight = dequantize(words, layout);
  const spec = compile([words, x], [matmul(softmax(x), weight)]);
  assert.deepEqual(spec.instructions.map(({ kernel }) => kernel).slice(-2), ["dequantize", "matmul"]);
});

test("a kernel stores equal values once", () => {
  const [x, y] = [float(4, 64), float(4, 64)];
  // Two nodes of one value, as computing it again to save memory leaves them; each is read by a product of its own.
  const twice = [exp(mul(x, y)), exp(mul(x, y))] as const;
  const graph = {
    inputs: [x, y],
    inputNames: ["x", "y"],
    donated: new Set<number>(),
    outputs: twice.map((t) => matmul(t, t, { transposeB: true })),
  };
  const [first] = compileProgram(graph).spec.instructions;
  assert.equal(first?.kernel, "fused");
  assert.equal(first?.outputs.length, 1);
});
