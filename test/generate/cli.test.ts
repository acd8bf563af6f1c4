import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { asset, skipWithout } from "../assets.ts";
import { plinth } from "../cli/run-main.ts";
import { stories } from "./support.ts";

const golden = "weights/stories260K/golden.json";
const skip = skipWithout(stories, golden);
let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "plinth-generate-"));
});
after(() => rm(folder, { recursive: true, force: true }));

/** The program itself, with text piped in. */
function piped(input: string, ...argv: string[]): Promise<{ code: number | null; out: string; err: string }> {
  const program = join(import.meta.dirname, "../../src/cli/main.js");
  const child = spawn(process.execPath, [program, ...argv]);
  let out = "";
  let err = "";
  child.stdout.on("data", (chunk) => (out += String(chunk)));
  child.stderr.on("data", (chunk) => (err += String(chunk)));
  child.stdin.end(input);
  return new Promise((resolve) => child.on("close", (code) => resolve({ code, out, err })));
}

test("plinth generate --json gives the reference's tokens in the documented shape", { skip }, async () => {
  const { greedy_ids_with_bos: ids } = JSON.parse(await readFile(asset(golden), "utf8")) as {
    greedy_ids_with_bos: number[];
  };
  const flags = ["--prompt", "Once upon a time", "--temperature", "0", "--max-tokens", "100", "--json"];
  const { code, out } = await plinth("generate", asset(stories), ...flags);
  assert.equal(code, 0);
  const document = JSON.parse(out) as Record<string, unknown>;
  assert.deepEqual(Object.keys(document), ["prompt", "text", "tokens", "logprobs", "finishReason", "tokensPerSecond"]);
  assert.deepEqual(document.tokens, ids.slice(5, 105));
  assert.equal((document.logprobs as number[]).length, 100);
  assert.equal(document.prompt, "Once upon a time");
  assert.equal(document.finishReason, "length");
});

test("text streams to standard output, the rest to standard error", { skip }, async () => {
  const { code, out, err } = await plinth(
    ...["generate", asset(stories), "--prompt", "Once upon a time", "--temperature", "0", "--stop", "."],
  );
  assert.equal(code, 0);
  assert.equal(out, ", there was a little girl named Lily\n");
  assert.match(err, /15 tokens|tokens, .* tokens\/s, ended by stop, seed \d+/);
});

test("a prompt can be piped in", { skip }, async () => {
  const { code, out } = await piped(
    "Once upon a time\n",
    ...["generate", asset(stories), "--temperature", "0", "--max-tokens", "5", "--json"],
  );
  assert.equal(code, 0);
  const { prompt, text } = JSON.parse(out) as { prompt: string; text: string };
  assert.deepEqual([prompt, text], ["Once upon a time", ", there was a little"]);
});

test("a model runs in the precision of its training; the flag overrides", { skip }, async () => {
  const trained = join(folder, "trained");
  await cp(asset(stories), trained, { recursive: true });
  await writeFile(join(trained, "run.json"), JSON.stringify({ status: "complete", config: { precision: "bf16" } }));
  const flags = ["--prompt", "Once upon a time", "--temperature", "0", "--max-tokens", "8", "--json"];
  const logprobs = async (model: string, ...more: string[]): Promise<{ values: number[]; err: string }> => {
    const { code, out, err } = await plinth("generate", model, ...flags, ...more);
    assert.equal(code, 0, err);
    return { values: (JSON.parse(out) as { logprobs: number[] }).logprobs, err };
  };
  const [plain, narrow] = [await logprobs(asset(stories)), await logprobs(asset(stories), "--precision", "bf16")];
  assert.notDeepEqual(plain.values, narrow.values);
  const asTrained = await logprobs(trained);
  assert.deepEqual(asTrained.values, narrow.values);
  assert.match(asTrained.err, /bf16, as .*trained was trained; --precision f32/);
  assert.deepEqual((await logprobs(trained, "--precision", "f32")).values, plain.values);

  const checkpoint = join(folder, "checkpoint");
  await cp(asset(stories), checkpoint, { recursive: true });
  await writeFile(join(checkpoint, "state.json"), JSON.stringify({ format: 1, config: { precision: "bf16" } }));
  assert.deepEqual((await logprobs(checkpoint)).values, narrow.values);

  const text = join(folder, "text.jsonl");
  await writeFile(text, `${JSON.stringify({ prompt: "Once upon a", choices: [" time", " cat"], answer: 0 })}\n`);
  const evaluated = await plinth("eval", trained, "--tasks", text, "--limit", "1");
  assert.match(evaluated.err, /bf16, as .*trained was trained/);
});

test("a run without a final model is read from its newest checkpoint; an adapter is not a model", {
  skip,
}, async () => {
  const run = join(folder, "run");
  await cp(asset(stories), join(run, "checkpoints", "step-000020"), { recursive: true });
  await cp(asset(stories), join(run, "checkpoints", "step-000010"), { recursive: true });
  await writeFile(join(run, "checkpoints", "step-000010", "config.json"), "{}");
  const flags = ["--prompt", "Once upon a time", "--temperature", "0", "--max-tokens", "5"];
  assert.equal((await plinth("generate", run, ...flags)).out, ", there was a little\n");

  const adapter = join(folder, "adapter");
  await cp(asset(stories), adapter, { recursive: true });
  await rm(join(adapter, "config.json"));
  await writeFile(join(adapter, "adapter_config.json"), '{"base_model_name_or_path": "models/base"}');
  const { code, err } = await plinth("generate", adapter, ...flags);
  assert.equal(code, 1);
  assert.match(err, /adapter is an adapter, not a model\. Fix: name the model it was made for: models\/base --adapter/);
  const none = await plinth("generate", asset(stories), "--adapter", join(folder, "none"), ...flags);
  assert.match(none.err, /none: no such folder\. Fix: name the folder that plinth adapt/);
});

test("a conversation goes through the chat template, and piped lines are its turns", { skip }, async () => {
  const model = join(folder, "chat");
  await cp(asset(stories), model, { recursive: true });
  const config = JSON.parse(await readFile(join(model, "tokenizer_config.json"), "utf8")) as object;
  const template = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}";
  await writeFile(join(model, "tokenizer_config.json"), JSON.stringify({ ...config, chat_template: template }));
  const flags = ["--temperature", "0", "--max-tokens", "5"];
  const talk = await piped(
    "Once upon a time\n/reset\n/what\nOnce upon a time\n/exit\nnever\n",
    "chat",
    model,
    ...flags,
  );
  assert.equal(talk.code, 0);
  assert.equal(talk.out, ", there was a little\n, there was a little\n");
  assert.match(talk.err, /forgotten\nunknown command \/what/);
  const json = await piped("Once upon a time\n", "chat", model, "--system", " ", "--json", ...flags);
  const { messages } = JSON.parse(json.out) as { messages: { role: string; content: string }[] };
  assert.deepEqual(
    messages.map(({ role }) => role),
    ["system", "user", "assistant"],
  );
  const { code, err } = await plinth("chat", asset(stories));
  assert.equal(code, 1);
  assert.match(err, /no chat template/);
});

test("plinth eval --json has the documented shape, and a table for people", { skip }, async () => {
  const questions = join(folder, "questions.jsonl");
  const lines = ["girl named", "park. One"].map((prompt) => ({ prompt, choices: ["Lily", "xqz"], answer: 0 }));
  await writeFile(questions, lines.map((line) => JSON.stringify(line)).join("\n"));
  const text = join(folder, "story.txt");
  await writeFile(text, "Once upon a time, there was a girl.<|endoftext|>She saw a big ball.");
  const tasks = `${questions},perplexity=${text}`;
  const { code, out } = await plinth("eval", asset(stories), "--tasks", tasks, "--json");
  assert.equal(code, 0);
  const document = JSON.parse(out) as { tasks: Record<string, unknown>[] };
  assert.deepEqual(Object.keys(document), ["tasks"]);
  for (const task of document.tasks) {
    assert.deepEqual(Object.keys(task), ["name", "metric", "value", "standardError", "count"]);
  }
  assert.deepEqual(
    document.tasks.map(({ name, metric, count }) => [name, metric, count]),
    [
      ["questions", "accuracy", 2],
      ["questions", "accuracy-norm", 2],
      ["perplexity", "bits-per-byte", 2],
      ["perplexity", "perplexity", 2],
    ],
  );
  assert.equal(document.tasks[0]?.value, 1);
  const bits = document.tasks[2]?.value as number;
  assert.ok(bits > 0.3 && bits < 2, `${bits} bits per byte on the kind of text it was trained on`);
  const table = await plinth("eval", asset(stories), "--tasks", tasks);
  assert.match(table.out, /^task +metric +value +standard error +items\nquestions +accuracy +1\.0000 +0\.0000 +2\n/);
  const bad = await plinth("eval", asset(stories), "--tasks", "blimp");
  assert.equal(bad.code, 1);
  assert.match(bad.err, /^\nerror: task blimp needs its data/);
});
