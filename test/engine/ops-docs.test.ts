import assert from "node:assert/strict";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { transformSync } from "@swc/core";
import { packageRoot } from "../../src/base/index.ts";
import { evaluateOracle } from "../../src/engine/backends/evaluate.ts";
import { registeredOps } from "../../src/engine/ir/op.ts";
import { buildCase, checkGradients, randomFor, toOracle } from "./contract-support.ts";

test("the op in docs/add-an-op.md works as printed", async () => {
  const page = readFileSync(join(packageRoot(), "docs", "add-an-op.md"), "utf8");
  const source = /```ts\n([\s\S]*?)```/.exec(page)?.[1] ?? assert.fail("no code in the page");
  const { code } = transformSync(source, { jsc: { parser: { syntax: "typescript" }, target: "es2022" } });
  // Beside the other ops, so that its relative imports lead where the page says.
  const file = new URL(`../../src/engine/ops/softplus-${process.pid}.js`, import.meta.url);
  writeFileSync(file, code.replaceAll(/(from "\.[^"]*)\.ts"/g, '$1.js"'));
  try {
    await import(file.href);
  } finally {
    rmSync(file);
  }
  const op = registeredOps().find((o) => o.name === "softplus") ?? assert.fail("not registered");
  for (const sample of op.samples) {
    const built = buildCase(op, sample);
    checkGradients(built, `softplus, ${sample.name}`, randomFor("directions", "softplus"));
    const [x] = built.arrays.map(toOracle);
    const [y] = evaluateOracle(built.graph.inputs, built.arrays.map(toOracle), built.graph.outputs);
    x?.data.forEach((v, i) => {
      assert.ok(Math.abs((y?.data[i] as number) - Math.log1p(Math.exp(v))) < 1e-12);
    });
  }
});
