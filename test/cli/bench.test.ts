import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { ProfileGroup } from "../../src/engine/index.ts";
import { plinth } from "./run-main.ts";

const tiny = [
  "--layers",
  "2",
  "--width",
  "32",
  "--heads",
  "2",
  "--context",
  "16",
  "--vocab",
  "50",
  "--seconds",
  "0.05",
];
let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "plinth-bench-"));
});
after(() => rm(folder, { recursive: true }));

const bench = (...argv: string[]) => plinth("bench", ...argv);

interface ProfileDocument {
  readonly title: string;
  readonly seconds: number;
  readonly kernelSeconds: number;
  readonly kernels: readonly ProfileGroup[];
  readonly operations: readonly ProfileGroup[];
  readonly instructions: readonly { readonly calls: number; readonly seconds: number; readonly flops: number }[];
}

test("--profile --json accounts for a training step's kernels, and the trace has each of them", async () => {
  const trace = join(folder, "step.json");
  const { code, out, err } = await bench("--profile", "--json", "--batch-size", "3", "--trace", trace, ...tiny);
  assert.equal(code, 0, err);
  const document = JSON.parse(out) as ProfileDocument;
  assert.match(document.title, /^training step, float32: gpt2, 2 layers of width 32, vocabulary 50, 3 x 16 tokens$/);
  for (const groups of [document.kernels, document.operations]) {
    const sum = (of: (group: ProfileGroup) => number): number => groups.reduce((total, group) => total + of(group), 0);
    assert.equal(
      sum(({ calls }) => calls),
      document.instructions.length,
    );
    assert.ok(Math.abs(sum(({ share }) => share) - 1) < 1e-9);
    assert.ok(Math.abs(sum(({ seconds }) => seconds) - document.kernelSeconds) < 1e-9);
  }
  assert.ok(document.kernelSeconds <= document.seconds, "kernels take no longer than the calls that ran them");
  // Forward 2 * parameters of products * tokens, backward twice that.
  const perToken = 2 * (2 * 12 * 32 * 32 + 50 * 32);
  const products = document.kernels.find(({ name }) => name === "matmul");
  assert.equal(products?.flops, 3 * perToken * 48);
  assert.ok(document.operations.some(({ name }) => name.endsWith("48x32 · 32x96")));

  const { traceEvents } = JSON.parse(await readFile(trace, "utf8")) as { traceEvents: { ph: string; dur: number }[] };
  const events = traceEvents.filter(({ ph }) => ph === "X");
  assert.equal(events.length, 1 + document.instructions.length);
  assert.ok(events.every(({ dur }) => dur >= 0));
});

test("--profile --decode shows a decoding step as tables", async () => {
  const { code, out, err } = await bench("--profile", "--decode", "--arch", "llama", "--rows", "3", ...tiny);
  assert.equal(code, 0, err);
  assert.match(out, /^decoding step, float32: llama, 2 layers .* 1 x 16 tokens$/m);
  assert.match(out, /^kernel +calls +ms +share +GFLOP\/s +GB\/s +of limit$/m);
  assert.match(out, /^cache_update +4 /m);
  assert.match(out, /^\.\.\. and \d+ more \(--rows\)$/m);
});

test("--profile --arch bert profiles masked language modelling", async () => {
  const { code, out, err } = await bench("--profile", "--json", "--arch", "bert", ...tiny);
  assert.equal(code, 0, err);
  const { operations } = JSON.parse(out) as ProfileDocument;
  // 15 % of 16 tokens in each of 8 rows: only their logits are computed.
  assert.ok(
    operations.some(({ name }) => name.endsWith("24x32 · 32x50ᵀ")),
    out,
  );
});

test("--recipe gives model and batch of a training recipe, flags win", async () => {
  const recipe = join(folder, "recipe.yaml");
  await writeFile(
    recipe,
    "layers: 1\nwidth: 64\nheads: 2\ncontext: 16\ntokenizer: characters\nbatch-size: 4\nsteps: 10\n",
  );
  const { code, out, err } = await bench(
    "--profile",
    "--json",
    "--recipe",
    recipe,
    "--width",
    "32",
    "--seconds",
    "0.05",
  );
  assert.equal(code, 0, err);
  const { title } = JSON.parse(out) as ProfileDocument;
  assert.equal(title, "training step, float32: gpt2, 1 layers of width 32, vocabulary 65, 4 x 16 tokens");
  assert.match(err, /65 assumed, --vocab says otherwise/);
});

test("without --profile: figures against the limits", async () => {
  const { code, out, err } = await bench("--json", "--precision", "f32", ...tiny);
  assert.equal(code, 0, err);
  const { rows } = JSON.parse(out) as { rows: { name: string; value: number; limited: { limit: number } }[] };
  assert.equal(rows.length, 3);
  assert.ok(rows.every(({ value, limited }) => value > 0 && limited.limit > 0));
});

for (const [argv, message] of [
  [["--trace", "x.json"], "--trace needs --profile"],
  [["--decode"], "--decode needs --profile"],
  [["--batch-size", "0"], "--batch-size expects a number above 0, got 0"],
  [["--profile", "--decode", "--arch", "bert"], "--decode: bert is an encoder"],
  [["--width", "30", "--heads", "4"], "not a multiple of n_head 4"],
  [["--profile", "--recipe", "/nowhere.yaml"], "/nowhere.yaml"],
  [["--profile", "--seconds", "0"], "--seconds expects a number above 0, got 0"],
] as const) {
  test(`wrong call: plinth bench ${argv.join(" ")}`, async () => {
    const { code, out, err } = await bench(...argv);
    assert.equal(code, 1);
    assert.equal(out, "");
    assert.ok(err.includes(message), err);
    assert.doesNotMatch(err, /\n\s+at /, "no stack trace");
  });
}
