import assert from "node:assert/strict";
import { test } from "node:test";
import { add, type Graph, input, matmul, type Node, Tensor, verifyGraph } from "../../src/engine/index.ts";

const type = { shape: [2, 2], dtype: "float32" } as const;

function graphOf(inputs: Tensor[], outputs: Tensor[]): Graph {
  return { inputs, inputNames: inputs.map((_, i) => `x${i}`), outputs, donated: new Set() };
}

/** The tensor's node with some fields replaced, as a broken pass might leave it. */
function broken(tensor: Tensor, changes: Partial<Node>): Tensor {
  return new Tensor({ ...tensor.node, ...changes }, tensor.index);
}

test("accepts a sound graph", () => {
  const x = input(type);
  const y = input(type);
  verifyGraph(graphOf([x, y], [add(matmul(x, y), 1), x]));
});

test("finds types that do not follow from the inputs", () => {
  const x = input(type);
  const y = broken(add(x, 1), { outputs: [{ shape: [2, 3], dtype: "float32" }] });
  assert.throws(() => verifyGraph(graphOf([x], [y])), /add records float32\[2,3\] but its op infers float32\[2,2\]/);
});

test("finds a use before the definition", () => {
  const x = input(type);
  const late = add(x, 2);
  const y = broken(add(x, 1), { inputs: [x, late] });
  const earlier = broken(y, { id: late.node.id - 1 });
  assert.throws(() => verifyGraph(graphOf([x], [earlier])), /add uses %\d+, which was made after it/);
});

test("finds a cycle", () => {
  const x = input(type);
  const y = add(x, 1);
  (y.node as { inputs: readonly Tensor[] }).inputs = [x, y];
  assert.throws(() => verifyGraph(graphOf([x], [y])), /add is part of a cycle/);
});

test("finds outputs that do not exist", () => {
  const x = input(type);
  const y = broken(add(x, 1), { inputs: [x, new Tensor(x.node, 3)] });
  assert.throws(() => verifyGraph(graphOf([x], [y])), /add uses output 3 of input, which has 1/);
});

test("finds inputs that the graph does not list, or lists twice", () => {
  const x = input(type);
  const y = input(type);
  assert.throws(() => verifyGraph(graphOf([x], [add(x, y)])), /input is not among the graph's inputs/);
  assert.throws(() => verifyGraph(graphOf([x, x], [x])), /the same input appears twice/);
  assert.throws(() => verifyGraph({ ...graphOf([x], [x]), donated: new Set([1]) }), /donated input 1 does not exist/);
});

test("finds insane sizes and attributes", () => {
  const x = input({ shape: [2.5], dtype: "float32" });
  assert.throws(() => verifyGraph(graphOf([x], [x])), /has shape \[2.5\], expected sizes that are whole/);
  const deep = input({ shape: [1, 1, 1, 1, 1, 1, 1, 1, 1], dtype: "float32" });
  assert.throws(() => verifyGraph(graphOf([deep], [deep])), /has rank 9, expected at most 8/);
  const y = input(type);
  assert.throws(
    () => verifyGraph(graphOf([y], [broken(add(y, 1), { attrs: { eps: Number.NaN } })])),
    /has NaN as attribute eps/,
  );
});
