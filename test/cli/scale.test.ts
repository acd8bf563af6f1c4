import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { readNumbers, short } from "../../src/cli/scale/plan.ts";
import { buildDataset } from "../../src/data/index.ts";
import { allSkills, trainingTexts } from "../../src/evaluate/index.ts";
import { plinth } from "./run-main.ts";

interface Report {
  lr: number;
  runs: { name: string; parameters: number; tokens: number; loss: number; flops: number; budget?: number }[];
  law: { E: number; intervals: { E: [number, number] } };
  next: { measured: number; predicted: { loss: number; interval: [number, number] }; error: number };
  learningRates: {
    curves: { parametrisation: string; width: number; runs: unknown[] }[];
    transfers: { ratio: number }[];
  };
  abilities: { parameters: number; abilities: { group: string; count: number }[] }[];
}

describe("plinth scale", () => {
  let folder: string;
  let flags: string[];
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "plinth-scale-"));
    const file = join(folder, "skills.jsonl");
    const texts = [...trainingTexts({ skills: allSkills(), difficulties: [1, 2], count: 1200, seed: 1 })];
    const documents = Array.from({ length: 300 }, (_, i) => texts.slice(4 * i, 4 * i + 4).join(""));
    writeFileSync(file, documents.map((text) => JSON.stringify({ text })).join("\n"));
    await buildDataset({ from: [file], out: join(folder, "data"), heldOut: 0.1 });
    flags = [
      ...["--data", join(folder, "data"), "--tokenizer", "characters", "--layers", "1", "--head-width", "8"],
      ...["--context", "32", "--batch-size", "4", "--held-out-batches", "4", "--max-epochs", "500"],
      ...["--batching", "contiguous"],
    ];
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  test("a sweep: learning rates, runs of equal compute, a law, the next size, abilities and a report", async () => {
    const out = join(folder, "sweep");
    const args = [
      ...[
        "scale",
        ...flags,
        "--sizes",
        "1k,3k,6k",
        "--budget-flops",
        "1.5e8,4.5e8",
        "--lr",
        "0.01,0.02",
        "--lr-steps",
        "10",
      ],
      ...["--lr-sizes", "2", "--lr-compare", "--predict", "12k", "--tasks", "copy=1-2,recall=1", "--limit", "6"],
      ...["--out", out],
    ];
    const first = await plinth(...args, "--json");
    assert.equal(first.code, 0, first.err);
    const report = JSON.parse(readFileSync(join(out, "report.json"), "utf8")) as Report;
    assert.equal(report.runs.length, 6);
    for (const { flops, budget } of report.runs) {
      assert.ok(Math.abs(flops / (budget as number) - 1) < 0.1, `${flops} of ${budget}`);
    }
    assert.deepEqual(
      report.learningRates.curves.map(({ parametrisation, runs }) => [parametrisation, runs.length]),
      [
        ["muP", 2],
        ["muP", 2],
        ["standard", 2],
        ["standard", 2],
      ],
    );
    assert.ok([0.01, 0.02].includes(report.lr));
    assert.ok(report.law.E > 0);
    const { predicted, measured, error } = report.next;
    assert.ok(Math.abs(predicted.loss / measured - 1 - error) < 1e-9);
    assert.ok(predicted.interval[0] <= predicted.interval[1]);
    assert.deepEqual(
      report.abilities.map(({ abilities }) => abilities.map(({ group }) => group)),
      Array.from({ length: 3 }, () => ["copy/1", "copy/2", "recall/1"]),
    );
    const markdown = readFileSync(join(out, "report.md"), "utf8");
    for (const heading of ["L(N, D)", "Equal compute", "The next size", "Learning rates", "Abilities", "Runs"]) {
      assert.ok(markdown.includes(`## ${heading}`), heading);
    }
    for (const picture of ["scaling-law.svg", "abilities.svg"]) {
      const svg = readFileSync(join(out, picture), "utf8");
      assert.match(svg, /^<svg /);
      assert.doesNotMatch(svg, /NaN|Infinity|undefined/);
    }
    assert.ok(
      existsSync(join(out, "runs", report.runs[0]?.name ?? "", "model.safetensors")),
      "each run leaves a model",
    );

    // Again with --resume: nothing is trained, and the report is the same.
    const model = join(out, "runs", report.runs[0]?.name ?? "", "model.safetensors");
    const before = statSync(model).mtimeMs;
    const again = await plinth(...args, "--json", "--resume");
    assert.equal(again.code, 0, again.err);
    assert.equal(again.out, first.out);
    assert.equal(statSync(model).mtimeMs, before);

    const other = await plinth(...args.map((arg) => (arg === "1.5e8,4.5e8" ? "1.5e8,4e8" : arg)), "--resume");
    assert.equal(other.code, 1);
    assert.match(other.err, /"budgets" is \[150000000,400000000\] now, but the sweep in .* was started with/);
    assert.match((await plinth(...args)).err, /already holds a sweep.*--resume/);
  });

  test("killed in the middle and resumed, it ends with the same losses", { timeout: 60_000 }, async () => {
    const args = [
      ...["scale", ...flags, "--sizes", "1k,3k", "--budget-flops", "1e8,3e8,6e8"],
      ...["--lr", "0.01", "--json"],
    ];
    const whole = await plinth(...args, "--out", join(folder, "whole"));
    assert.equal(whole.code, 0, whole.err);
    const out = join(folder, "killed");
    const program = join(
      import.meta.dirname,
      "..",
      "..",
      "src",
      "cli",
      `main.${import.meta.filename.split(".").at(-1)}`,
    );
    const child = spawn(process.execPath, [program, ...args, "--out", out], { stdio: "ignore" });
    while (child.exitCode === null && finished(out) < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    child.kill("SIGKILL");
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
    const resumed = await plinth(...args, "--out", out, "--resume");
    assert.equal(resumed.code, 0, resumed.err);
    const losses = (text: string) => (JSON.parse(text) as Report).runs.map(({ name, loss }) => [name, loss]);
    assert.deepEqual(losses(resumed.out), losses(whole.out));
  });

  for (const [change, message] of [
    [["--sizes", "3k,3.1k"], /two of them are the same model of width/],
    [["--sizes", "many"], /--sizes: expected numbers separated by commas, got "many"/],
    [["--sizes", "1k,3k", "--budget-flops", "1e3"], /no run of the sweep is possible .* steps are too few/],
    [["--budget-flops", "1e7"], /--sizes is missing/],
    [["--sizes", "1k,3k", "--budget-flops", "1e7", "--arch", "palm"], /palm: .*embeddings not tied/],
  ] as const) {
    test(`wrong call: ${change.join(" ")}`, async () => {
      const budget = change.includes("--budget-flops" as never) ? [] : ["--budget-flops", "2e8"];
      const out = join(folder, `wrong-${readdirSync(folder).length}`);
      const { code, err } = await plinth("scale", ...flags, ...change, ...budget, "--out", out);
      assert.equal(code, 1);
      assert.match(err, message);
    });
  }
});

function finished(out: string): number {
  return existsSync(join(out, "runs")) ? readdirSync(join(out, "runs")).length : 0;
}

test("numbers of flags and names of runs", () => {
  assert.deepEqual(readNumbers("sizes", "30k, 1.5M,2e11"), [30_000, 1_500_000, 2e11]);
  assert.deepEqual([3e11, 1.25e9, 500, 123456].map(short), ["3e11", "1.25e9", "500", "1.23e5"]);
});
