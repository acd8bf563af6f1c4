import assert from "node:assert/strict";
import { test } from "node:test";
import {
  add,
  constant,
  createBackend,
  jit,
  matmul,
  printGraph,
  split,
  type Tensor,
  withScope,
} from "../../src/engine/index.ts";

test("prints one line per node with operands, attributes, types and scope", () => {
  const f = (x: Tensor, params: { w: Tensor }) =>
    withScope("h.0", () => {
      const y = withScope("attn", () => matmul(x, params.w));
      const [a, b] = split(y, [1, 3], { axis: 1 }) as [Tensor, Tensor];
      return [add(a, 0.5), b];
    });
  const { graph } = jit(f, { donate: [0], backend: createBackend("reference") }).compile(
    { shape: [2, 3], dtype: "float32" },
    { w: { shape: [3, 4], dtype: "float32" } },
  );
  assert.equal(
    printGraph(graph),
    [
      "%0 = input x : float32[2,3] (donated)",
      "%1 = input params.w : float32[3,4]",
      "%2 = matmul(%0, %1) : float32[2,4]   ; h.0.attn",
      "%3 = split(%2, sizes: [1,3], axis: 1) : float32[2,1], float32[2,3]   ; h.0",
      "%4 = constant(value: float32[](0.5)) : float32[]   ; h.0",
      "%5 = add(%3.0, %4) : float32[2,1]   ; h.0",
      "return %5, %3.1",
    ].join("\n"),
  );
});

test("shortens long constants and lists", () => {
  const f = jit((x: Tensor) => add(x, constant(Array.from({ length: 20 }, (_, i) => i))), {
    backend: createBackend("reference"),
  });
  const { graph } = f.compile({ shape: [20], dtype: "float32" });
  assert.match(printGraph(graph), /constant\(value: float32\[20\]\(0,1,2,3,4,5,6,7,\.\.\.\)\)/);
});
