import assert from "node:assert/strict";
import { test } from "node:test";
import { simplifyAlgebra } from "../../src/engine/compile/algebra.ts";
import { mergeCommonSubexpressions } from "../../src/engine/compile/common-subexpressions.ts";
import { decompose } from "../../src/engine/compile/decompose.ts";
import { foldConstants } from "../../src/engine/compile/fold-constants.ts";
import { simplify } from "../../src/engine/compile/simplify.ts";
import {
  add,
  broadcastTo,
  cast,
  concat,
  constant,
  exp,
  type Graph,
  input,
  matmul,
  mul,
  neg,
  pad,
  printGraph,
  randomUniform,
  relu,
  reshape,
  type Shape,
  slice,
  softmax,
  split,
  stopGradient,
  sub,
  sum,
  type Tensor,
  topologicalOrder,
  transpose,
  verifyGraph,
  withScope,
} from "../../src/engine/index.ts";

const float = (shape: Shape): Tensor => input({ shape, dtype: "float32" });

function graphOf(inputs: Tensor[], ...outputs: Tensor[]): Graph {
  return { inputs, inputNames: inputs.map((_, i) => `x${i}`), outputs, donated: new Set() };
}

/** Applies a pass, checks that the graph stays sound, and names the ops left besides inputs and constants. */
function opsAfter(pass: (graph: Graph) => Graph, graph: Graph): string[] {
  const result = pass(graph);
  verifyGraph(result);
  assert.deepEqual(
    result.outputs.map((t) => [t.dtype, ...t.shape]),
    graph.outputs.map((t) => [t.dtype, ...t.shape]),
    "a pass must keep the types of the outputs",
  );
  return topologicalOrder(result.outputs)
    .map((node) => node.op.name)
    .filter((name) => name !== "input" && name !== "constant");
}

test("decompose: composite ops become simpler ones, with the scope they came from", () => {
  const x = float([2, 3]);
  const graph = graphOf(
    [x],
    withScope("head", () => softmax(x)),
  );
  const ops = opsAfter(decompose, graph);
  assert.ok(!ops.includes("softmax") && ops.includes("exp"), ops.join());
  const result = topologicalOrder(decompose(graph).outputs).filter((node) => node.op.name !== "input");
  assert.ok(result.every((node) => node.scope === "head"));
});

test("constants fold, but repetitions and large results do not", () => {
  const x = float([3]);
  const folded = foldConstants(graphOf([x], add(x, exp(add(constant([1, 2, 3]), 1)))));
  assert.match(printGraph(folded), /constant\(value: float32\[3\]\(7\.389\d*,20\.08\d*,54\.59\d*\)\)/);
  const wide = float([2048]);
  assert.deepEqual(opsAfter(foldConstants, graphOf([wide], add(wide, broadcastTo(constant([1]), [2048])))), [
    "broadcastTo",
    "add",
  ]);
  const big = constant(new Float32Array(4096));
  assert.deepEqual(opsAfter(foldConstants, graphOf([], exp(big))), ["exp"]);
});

const algebra: [name: string, build: (x: Tensor) => Tensor, left: string[]][] = [
  ["x + 0", (x) => add(x, 0), []],
  ["0 + x", (x) => add(0, x), []],
  ["x - 0", (x) => sub(x, 0), []],
  ["x * 1", (x) => mul(x, 1), []],
  ["1 * x", (x) => mul(1, x), []],
  ["x * broadcast 1", (x) => mul(x, broadcastTo(constant([1]), [4, 6])), []],
  ["x * 2", (x) => mul(x, 2), ["mul"]],
  ["x + 0 of a larger shape", (x) => add(x, broadcastTo(constant([0]), [5, 4, 6])), ["broadcastTo"]],
  ["-(-x)", (x) => neg(neg(x)), []],
  ["transpose twice", (x) => transpose(transpose(x, [1, 0]), [1, 0]), []],
  ["transpose once", (x) => transpose(x, [1, 0]), ["transpose"]],
  [
    "three transposes",
    (x) => transpose(transpose(reshape(x, [4, 2, 3]), [1, 2, 0]), [1, 2, 0]),
    ["reshape", "transpose"],
  ],
  ["transpose of a size-1 axis", (x) => transpose(reshape(x, [4, 1, 6]), [1, 0, 2]), ["reshape"]],
  ["reshape of reshape", (x) => reshape(reshape(x, [2, 12]), [24]), ["reshape"]],
  ["reshape there and back", (x) => reshape(reshape(x, [24]), [4, 6]), []],
  ["broadcast of broadcast", (x) => broadcastTo(broadcastTo(x, [2, 4, 6]), [3, 2, 4, 6]), ["broadcastTo"]],
  ["sum of size-1 axes", (x) => sum(reshape(x, [4, 1, 6]), { axes: [1] }), []],
  ["sum of no axes", (x) => sum(x, { axes: [] }), []],
  ["sum", (x) => sum(x, { axes: [1] }), ["sum"]],
  ["stopGradient", (x) => stopGradient(x), []],
  ["whole slice", (x) => slice(x, { starts: [0, 0], limits: [4, 6] }), []],
  ["pad by nothing", (x) => pad(x, { low: [0, 0], high: [0, 0] }), []],
  ["concat of one", (x) => concat([x], { axis: 0 }), []],
  ["concat of a split", (x) => concat(split(x, 3, { axis: 1 }), { axis: 1 }), []],
  ["concat of a split, reordered", (x) => concat(split(x, 2, { axis: 1 }).reverse(), { axis: 1 }), ["split", "concat"]],
  ["elementwise before repetition", (x) => exp(broadcastTo(x, [9, 4, 6])), ["exp", "broadcastTo"]],
  [
    "implicit repetition",
    (x) => add(x, broadcastTo(reshape(sum(x, { axes: [1] }), [4, 1]), [4, 6])),
    ["sum", "reshape", "add"],
  ],
];
for (const [name, build, left] of algebra) {
  test(`algebra: ${name}`, () => {
    const x = float([4, 6]);
    assert.deepEqual(opsAfter(simplify, graphOf([x], build(x))), left);
  });
}

test("algebra: a transposed product is the product of the transposed, unless the product itself is needed", () => {
  const a = float([5, 4, 6]);
  const b = float([5, 6, 3]);
  const product = matmul(a, b);
  const turned = transpose(product, [0, 2, 1]);
  assert.deepEqual(opsAfter(simplifyAlgebra, graphOf([a, b], turned)), ["transpose", "transpose", "matmul"]);
  assert.deepEqual(opsAfter(simplifyAlgebra, graphOf([a, b], turned, product)), ["matmul", "transpose"]);
  assert.deepEqual(opsAfter(simplifyAlgebra, graphOf([a, b], transpose(product, [1, 2, 0]))), ["matmul", "transpose"]);
});

test("algebra: a cast to the same element type vanishes, others stay", () => {
  const x = input({ shape: [3], dtype: "int32" });
  const roundTrip = cast(cast(x, "float32"), "int32");
  assert.deepEqual(opsAfter(simplifyAlgebra, graphOf([x], roundTrip)), ["cast", "cast"]);
});

test("common subexpressions merge where op, attributes and inputs agree", () => {
  const x = float([4]);
  const y = float([4]);
  const key = input({ shape: [2], dtype: "int32" });
  assert.deepEqual(opsAfter(mergeCommonSubexpressions, graphOf([x], add(exp(x), exp(x)))), ["exp", "add"]);
  assert.deepEqual(opsAfter(mergeCommonSubexpressions, graphOf([x, y], add(exp(x), exp(y)))), ["exp", "exp", "add"]);
  assert.equal(topologicalOrder(mergeCommonSubexpressions(graphOf([x], add(mul(x, 2), mul(x, 2)))).outputs).length, 4);
  assert.deepEqual(opsAfter(mergeCommonSubexpressions, graphOf([x], sum(x), sum(x, { keepDims: true }))), [
    "sum",
    "sum",
  ]);
  const random = (stream: number): Tensor => randomUniform(key, [4], { stream });
  const same = graphOf([key], add(random(1), random(1)));
  const different = graphOf([key], add(random(1), random(2)));
  assert.equal(
    opsAfter(mergeCommonSubexpressions, different).length,
    opsAfter(mergeCommonSubexpressions, same).length + 1,
  );
});

test("common subexpressions: constants are compared by their bits", () => {
  const x = float([2]);
  const graph = graphOf([x], mul(x, constant([0, 1])), mul(x, constant([-0, 1])), mul(x, constant([0, 1])));
  const merged = mergeCommonSubexpressions(graph);
  assert.equal(merged.outputs[0]?.node, merged.outputs[2]?.node);
  assert.notEqual(merged.outputs[0]?.node, merged.outputs[1]?.node);
});

test("unused nodes are gone, graph inputs stay", () => {
  const x = float([2]);
  const unused = float([2]);
  exp(x);
  const graph = simplify(graphOf([x, unused], relu(x)));
  verifyGraph(graph);
  assert.deepEqual(graph.inputs, [x, unused]);
  assert.deepEqual(opsAfter(simplify, graph), ["relu"]);
});

test("passes keep the order of the program", () => {
  const x = float([2]);
  const first = withScope("first", () => mul(x, 3));
  const second = withScope("second", () => add(exp(x), 0));
  const graph = simplify(graphOf([x], add(first, second)));
  const scopes = topologicalOrder(graph.outputs).map((node) => node.scope);
  assert.ok(scopes.indexOf("first") < scopes.indexOf("second"));
});
