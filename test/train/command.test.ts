import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { modelFamilies } from "../../src/models/index.ts";

const isSource = import.meta.filename.endsWith(".ts");
const main = join(import.meta.dirname, "..", "..", "src", "cli", `main.${isSource ? "ts" : "js"}`);
let folder = "";
let data = "";

function plinth(args: readonly string[], env: Record<string, string> = {}) {
  return spawnSync(process.execPath, [main, ...args], { encoding: "utf8", env: { ...process.env, ...env } });
}

const tiny = ["--layers", "1", "--width", "16", "--heads", "2", "--context", "16", "--batch-size", "2", "--lr", "0.01"];
const pretrain = (out: string, ...more: string[]) => [
  ...["pretrain", "--data", data, "--tokenizer", "characters", ...tiny, "--out", join(folder, out), ...more],
];

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "plinth-command-"));
  data = join(folder, "data");
  await writeFile(join(folder, "text.txt"), "the quick brown fox jumps over the lazy dog.\n".repeat(60));
  const built = plinth([
    "data",
    "build",
    "--from",
    join(folder, "text.txt"),
    "--split",
    "tail",
    "--held-out",
    "0.1",
    "--out",
    data,
  ]);
  assert.equal(built.status, 0, built.stderr);
});
after(() => rm(folder, { recursive: true, force: true }));

test("pretrain --arch bert: masked tokens, with a tokenizer that has a mask token", () => {
  const tokenizer = join(folder, "tokenizer");
  const special = ["--special-token", "[SEP]", "--special-token", "[MASK]"];
  const train = ["tokenizer", "train", "--data", data, "--vocab-size", "270", ...special, "--out", tokenizer];
  const made = plinth(train);
  assert.equal(made.status, 0, made.stderr);
  const run = (tokens: string, out: string, ...more: string[]) =>
    plinth([
      ...["pretrain", "--arch", "bert", "--data", data, "--tokenizer", tokens, ...tiny, "--steps", "40", "--json"],
      ...["--out", join(folder, out), ...more],
    ]);
  const trained = run(tokenizer, "bert", "--whole-words");
  assert.equal(trained.status, 0, trained.stderr);
  const { loss, heldOut } = JSON.parse(trained.stdout);
  assert.ok(loss < Math.log(270) && heldOut.bitsPerByte > 0, trained.stdout);
  const refused = run("characters", "none");
  assert.equal(refused.status, 1);
  assert.match(refused.stderr, /masked-lm: the tokenizer has no mask token .*Fix: /s);
  const causal = run(tokenizer, "none", "--objective", "clm");
  assert.match(causal.stderr, /objective clm: bert is an encoder/);
  const text = plinth(["generate", join(folder, "bert"), "--prompt", "the"]);
  assert.match(text.stderr, /generate: bert is an encoder, which does not predict the next token/);
});

test("pretrain and adapt: one JSON document each, folders that open, resuming what is done changes nothing", async () => {
  const model = join(folder, "model");
  const trained = plinth(pretrain("model", "--steps", "30", "--checkpoint-every", "10", "--json"));
  assert.equal(trained.status, 0, trained.stderr);
  const document = JSON.parse(trained.stdout);
  assert.equal(document.model, model);
  assert.equal(document.steps, 30);
  assert.equal(document.status, "complete");
  assert.ok(
    document.loss > 0 && document.heldOut.bitsPerByte > 0 && document.tokensPerSecond > 0 && document.seconds > 0,
  );
  const names = await readdir(model);
  for (const name of [
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "generation_config.json",
    "run.json",
    "metrics.jsonl",
  ]) {
    assert.ok(names.includes(name), `${name} is missing`);
  }
  const { config, environment } = JSON.parse(await readFile(join(model, "run.json"), "utf8"));
  assert.equal(config.seed, 0);
  assert.equal(config.lr, 0.01);
  assert.match(config.dataHash, /^[0-9a-f]{64}$/);
  assert.ok(environment.code.length > 0);

  const before = await readFile(join(model, "model.safetensors"));
  const again = plinth(pretrain("model", "--steps", "30", "--checkpoint-every", "10", "--json", "--resume"));
  assert.equal(again.status, 0, again.stderr);
  assert.equal(JSON.parse(again.stdout).heldOut.bitsPerByte, document.heldOut.bitsPerByte);
  assert.deepEqual(await readFile(join(model, "model.safetensors")), before);

  const records = Array.from({ length: 12 }, (_, i) =>
    JSON.stringify({ prompt: "the fox", completion: i % 2 ? " jumps" : " jumps over" }),
  );
  await writeFile(join(folder, "answers.jsonl"), records.join("\n"));
  const adapter = join(folder, "adapter");
  const adapted = plinth([
    ...[
      "adapt",
      model,
      "--method",
      "lora",
      "--data",
      join(folder, "answers.jsonl"),
      "--rank",
      "2",
      "--targets",
      "c_attn,c_proj",
    ],
    ...["--steps", "20", "--batch-size", "2", "--out", adapter, "--json"],
  ]);
  assert.equal(adapted.status, 0, adapted.stderr);
  assert.equal(JSON.parse(adapted.stdout).model, adapter);
  assert.match(adapted.stderr, /11 records to learn from .* 1 held out/);
  const peft = JSON.parse(await readFile(join(adapter, "adapter_config.json"), "utf8"));
  assert.deepEqual([peft.r, peft.target_modules, peft.base_model_name_or_path], [2, ["c_attn", "c_proj"], model]);
  const text = plinth([
    "generate",
    model,
    "--adapter",
    adapter,
    "--prompt",
    "the fox",
    "--max-tokens",
    "4",
    "--temperature",
    "0",
    "--json",
  ]);
  assert.equal(text.status, 0, text.stderr);
});

test("a recipe has the flags' names; the command line wins; an unknown key names the nearest", async () => {
  const recipe = join(folder, "recipe.yaml");
  await writeFile(
    recipe,
    `data: ${data}\ntokenizer: characters\nlayers: 1\nwidth: 16\nheads: 2\ncontext: 16\nbatch-size: 2\nsteps: 50\nout: ${join(folder, "not-this-one")}\n`,
  );
  const out = join(folder, "from-recipe");
  const trained = plinth(["pretrain", recipe, "--steps", "3", "--out", out, "--json"]);
  assert.equal(trained.status, 0, trained.stderr);
  assert.equal(JSON.parse(trained.stdout).steps, 3);
  assert.equal(JSON.parse(trained.stdout).model, out);
  const refuse = async (line: string, message: string): Promise<void> => {
    await writeFile(recipe, `data: ${data}\n${line}\n`);
    const { status, stderr } = plinth(["pretrain", recipe, "--out", join(folder, "refused")]);
    assert.equal(status, 1);
    assert.ok(stderr.includes(`error: ${recipe}: ${message}`), stderr);
  };
  await refuse("step: 3", 'unknown key "step". Fix: did you mean "steps"?');
  await refuse("steps: many", 'steps: expected a whole number, got "many". Fix: correct the recipe.');
  const known = modelFamilies().map(({ modelType }) => modelType);
  await refuse("arch: gpt3", `arch: expected one of ${known.join(", ")}, got "gpt3". Fix: correct the recipe.`);
  await refuse("- a", "not valid YAML");
});

test("what cannot be done is one message with the fix", () => {
  const refuse = (args: readonly string[], message: RegExp, env = {}): void => {
    const { status, stderr } = plinth(args, env);
    assert.equal(status, 1, stderr);
    assert.match(stderr, message);
    assert.doesNotMatch(stderr, /\n\s+at /);
  };
  refuse(pretrain("fp8", "--precision", "fp8"), /error: --precision expects one of f32, bf16, got "fp8"/);
  refuse(
    pretrain("memory", "--steps", "2"),
    /error: out of memory before start: the program needs .* PLINTH_MEMORY_LIMIT allows 50\.0 KiB\. Fix: use a smaller batch size/,
    { PLINTH_MEMORY_LIMIT: "51200" },
  );
  refuse(
    [
      ...["pretrain", "--data", data, "--tokenizer", "characters", "--layers", "96", "--width", "65536"],
      ...["--heads", "64", "--out", join(folder, "weights")],
    ],
    /error: out of memory before start: the weights of this model need .* but only .* is available\. Fix: use fewer layers/,
  );
  refuse(pretrain("heads", "--kv-heads", "1"), /error: gpt2: 1 key-value heads for 2 heads/);
  refuse(
    ["pretrain", "--data", join(folder, "none"), "--tokenizer", "characters", "--out", join(folder, "x")],
    /not a dataset|no such/,
  );
  refuse(["pretrain", "--data", data, "--out", join(folder, "x")], /--tokenizer is missing/);
});

test("Ctrl-C saves a checkpoint, says how to go on, and the run goes on", async () => {
  const args = pretrain("interrupted", "--steps", "100000", "--checkpoint-every", "100000");
  const child = spawn(process.execPath, [main, ...args], { stdio: ["ignore", "ignore", "pipe"] });
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    errors += text;
    if (text.includes("parameters")) setTimeout(() => child.kill("SIGINT"), 300);
  });
  const code = await new Promise((resolve) => child.on("close", resolve));
  assert.equal(code, 130, errors);
  const step = Number(/stopped after step (\d+); give the same command with --resume to continue/.exec(errors)?.[1]);
  assert.ok(step > 0, errors);
  const saved = await readdir(join(folder, "interrupted", "checkpoints"));
  assert.deepEqual(saved, [`step-${`${step}`.padStart(6, "0")}`]);
});
