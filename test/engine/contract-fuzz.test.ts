import assert from "node:assert/strict";
import { test } from "node:test";
import { evaluateOracle } from "../../src/engine/backends/evaluate.ts";
import { createBackend } from "../../src/engine/backends/index.ts";
import { NativeMissingError } from "../../src/engine/backends/load-native.ts";
import { simplify } from "../../src/engine/compile/simplify.ts";
import { decodeFloat64 } from "../../src/engine/ir/convert.ts";
import { isFloating } from "../../src/engine/ir/dtype.ts";
import type { Oracle } from "../../src/engine/ir/op.ts";
import { printGraph } from "../../src/engine/ir/print.ts";
import { assertClose, runOn, toOracle } from "./contract-support.ts";
import { randomGraph } from "./random-graph.ts";

/** Set in the child processes of the contract suite that repeat the native part for the other instruction sets. */
const nativeOnly = process.env["PLINTH_CONTRACT_NATIVE_ONLY"] === "1";
/** More for a long run: PLINTH_FUZZ_GRAPHS=5000. */
const graphs = Number(process.env["PLINTH_FUZZ_GRAPHS"] ?? 60);

let skip: string | false = false;
try {
  createBackend("native");
} catch (error) {
  if (!(error instanceof NativeMissingError)) throw error;
  skip = "the native engine is not built here";
}

test("random programs give on the native backend what the oracle gives", { skip }, async (t) => {
  const native = createBackend("native");
  let compared = 0;
  for (let seed = 1; seed <= graphs; seed++) {
    const { graph, arrays, valueCount } = randomGraph(seed);
    const expected = evaluateOracle(graph.inputs, arrays.map(toOracle), graph.outputs);
    const simplified = simplify(graph);
    const actual = await runOn(native, { graph: simplified, arrays });
    actual.forEach((array, i) => {
      const e = (expected[i] as Oracle).data;
      assert.ok(isFloating(array.dtype));
      const largest = e.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
      const what = `seed ${seed}, ${i < valueCount ? `output ${i}` : `gradient ${i - valueCount}`}`;
      try {
        assertClose(decodeFloat64(array.dtype, array.data), e, 2e-4, what, largest);
      } catch (error) {
        t.diagnostic(printGraph(simplified));
        throw error;
      }
      compared += e.length;
    });
  }
  assert.ok(compared > graphs * 50, `only ${compared} numbers compared`);
});

test("random programs keep their meaning through the shared passes", { skip: nativeOnly }, async () => {
  for (let seed = 1; seed <= graphs; seed++) {
    const { graph, arrays } = randomGraph(seed);
    const values = arrays.map(toOracle);
    const before = evaluateOracle(graph.inputs, values, graph.outputs);
    const after = evaluateOracle(graph.inputs, values, simplify(graph).outputs);
    // Constants that are folded are rounded to float32.
    after.forEach((value, i) => {
      assertClose(value.data, before[i]?.data ?? [], 1e-5, `seed ${seed}, output ${i}`);
    });
  }
});
