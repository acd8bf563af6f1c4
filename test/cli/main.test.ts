import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { PlinthError } from "../../src/base/index.ts";
import { plinth } from "./run-main.ts";

const commands = [
  "quickstart",
  "doctor",
  "data build",
  "data show",
  "data skills",
  "tokenizer train",
  "pretrain",
  "adapt",
  "generate",
  "chat",
  "eval",
  "eval ngram",
  "scale",
  "bench",
];

test("the overview lists every command with a summary", async () => {
  const { code, out } = await plinth();
  assert.equal(code, 0);
  for (const name of commands) assert.match(out, new RegExp(`^  ${name}  +\\S`, "m"));
});

for (const name of commands) {
  test(`plinth ${name} --help shows flags and an example that begins with the command`, async () => {
    const { code, out } = await plinth(...name.split(" "), "--help");
    assert.equal(code, 0);
    assert.match(out, new RegExp(`^plinth ${name}`));
    assert.match(out, /--json/);
    assert.match(out, new RegExp(`example:\n  plinth ${name}`));
  });
}

for (const [argv, message] of [
  [["generat"], 'unknown command "generat". Fix: did you mean plinth generate?'],
  [["data"], "plinth data: choose one of data build, data show"],
  [["generate"], "plinth generate: MODEL is missing."],
  [["doctor", "--jsn"], "plinth doctor: unknown flag --jsn. Fix: did you mean --json?"],
  [["generate", "/nowhere", "--prompt", "x"], "/nowhere"],
  [["quickstart", "/nowhere", "--out", `${import.meta.filename}/out`], "a part of the path is a file, not a folder"],
] as const) {
  test(`wrong call: plinth ${argv.join(" ")}`, async () => {
    const { code, out, err } = await plinth(...argv);
    assert.equal(code, 1);
    assert.equal(out, "");
    assert.ok(err.includes(message), err);
    assert.doesNotMatch(err, /\n\s+at /, "no stack trace");
  });
}

test("doctor --json prints one document with the machine's figures", async () => {
  const { code, out } = await plinth("doctor", "--json");
  assert.equal(code, 0);
  const report = JSON.parse(out) as { version: string; cores: number; native: object; limits?: { gflops: number } };
  assert.match(report.version, /^\d+\.\d+\.\d+/);
  assert.ok(report.cores >= 1);
  if ("isa" in report.native) assert.ok((report.limits?.gflops ?? 0) > 0.1);
});

test("--version is that of package.json", async () => {
  const { out } = await plinth("--version");
  assert.match(out, /^\d+\.\d+\.\d+\n$/);
});

test("a question is not ended by a full stop", () => {
  assert.equal(
    new PlinthError("unknown flag --a", "did you mean --b?").message,
    "unknown flag --a. Fix: did you mean --b?",
  );
  assert.equal(new PlinthError("no.", "do.").message, "no. Fix: do.");
});

test("a reader that goes away is no error", async () => {
  const file = `main.${import.meta.filename.endsWith(".ts") ? "ts" : "js"}`;
  const program = join(import.meta.dirname, "..", "..", "src", "cli", file);
  const child = spawn(process.execPath, [program, "--help"], { stdio: ["ignore", "pipe", "pipe"] });
  child.stdout.destroy();
  const [errors, [status]] = await Promise.all([text(child.stderr), once(child, "exit")]);
  assert.equal(errors, "");
  assert.equal(status, 0);
});
