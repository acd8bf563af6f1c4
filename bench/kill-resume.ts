/**
 * Kills a training run at random moments with SIGKILL, also inside checkpoints, resumes it until it is done, and compares
 * the final weights with those of a run that nobody killed, bit for bit:
 *
 *     npx tsc -p tsconfig.test.json && node dist-test/bench/kill-resume.js [--kills 200] [--seed 1] [--json]
 *
 * The run is `plinth pretrain` on the command line, in a process of its own.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { type FSWatcher, mkdirSync, watch } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { sha256File } from "../src/base/index.ts";
import { HostRandom } from "../src/engine/index.ts";

export interface KillOptions {
  /** Kills in all, spread over as many runs as it takes. */
  readonly kills: number;
  readonly seed?: number;
  /** Further flags of the run. */
  readonly flags?: readonly string[];
  readonly steps?: number;
  readonly onKill?: (done: number, where: string) => void;
}

export interface KillOutcome {
  readonly kills: number;
  /** Kills while a checkpoint was being written. */
  readonly insideCheckpoint: number;
  /** Kills before the first checkpoint of a process (loading, resuming, first steps). */
  readonly beforeFirstCheckpoint: number;
  /** Runs brought to their end, each by resuming after its kills. */
  readonly runs: number;
  /** What differed from the run that was not killed, per run; empty when every bit was the same. */
  readonly differences: readonly string[];
  readonly seconds: number;
}

const mainFile = join(
  import.meta.dirname,
  "..",
  "src",
  "cli",
  `main.${import.meta.filename.endsWith(".ts") ? "ts" : "js"}`,
);

/** Runs the experiment. Throws when a process fails for another reason than being killed. */
export async function killAndResume(options: KillOptions): Promise<KillOutcome> {
  const started = performance.now();
  const folder = await mkdtemp(join(tmpdir(), "plinth-kill-"));
  try {
    const flags = await prepare(folder, options);
    const whole = join(folder, "whole");
    const single = await live(flags, whole, () => undefined);
    if (single !== "done") throw new Error("the run that nobody kills did not end");
    const expected = await fingerprint(whole);

    const random = new HostRandom(options.seed ?? 1);
    const counts = { kills: 0, insideCheckpoint: 0, beforeFirstCheckpoint: 0, runs: 0 };
    const differences: string[] = [];
    while (counts.kills < options.kills || counts.runs === 0) {
      const out = join(folder, `run-${counts.runs}`);
      for (let ended = false; !ended; ) {
        const isLast = counts.kills >= options.kills;
        const plan = isLast ? undefined : choosePlan(random);
        const before = await temporaries(out);
        const end = await live(flags, out, (child) => plan?.(child, out));
        ended = end === "done";
        if (ended) continue;
        counts.kills++;
        const inside = (await temporaries(out)).some((name) => !before.includes(name));
        if (inside) counts.insideCheckpoint++;
        if (end === "killed before its first checkpoint") counts.beforeFirstCheckpoint++;
        options.onKill?.(counts.kills, inside ? "inside a checkpoint" : end);
      }
      counts.runs++;
      const found = await fingerprint(out);
      const wrong = Object.keys(expected).filter((part) => found[part] !== expected[part]);
      if (wrong.length > 0) differences.push(`run ${counts.runs}: ${wrong.join(", ")}`);
      await rm(out, { recursive: true, force: true });
    }
    return { ...counts, differences, seconds: (performance.now() - started) / 1000 };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** The dataset, and the flags of a run of a few seconds that writes a checkpoint every few milliseconds. */
async function prepare(folder: string, { flags = [], steps = 120 }: KillOptions): Promise<readonly string[]> {
  const text = join(folder, "text.txt");
  const random = new HostRandom(7);
  const words = ["plinth", "stone", "column", "stands", "on", "the", "base", "and", "holds", "weight", "\n"];
  await writeFile(text, Array.from({ length: 4000 }, () => words[random.int(words.length)]).join(" "));
  const data = join(folder, "data");
  const end = await live(
    ["data", "build", "--from", text, "--split", "tail", "--held-out", "0.1", "--out", data],
    undefined,
    () => undefined,
  );
  if (end !== "done") throw new Error("the dataset could not be built");
  return [
    ...["pretrain", "--data", data, "--tokenizer", "characters", "--layers", "1", "--width", "16", "--heads", "2"],
    ...["--context", "16", "--batch-size", "2", "--dropout", "0.1", "--steps", `${steps}`, "--lr", "0.003"],
    ...["--checkpoint-every", "2", "--held-out-every", "20", "--held-out-batches", "2", "--verbose", ...flags],
  ];
}

type Plan = (child: ChildProcess, out: string) => void;

/** When to kill: at a random time after the start, some checkpoints in, or a moment after one has begun. */
function choosePlan(random: HostRandom): Plan {
  const kind = random.int(10);
  const wait = random.uniform();
  if (kind < 2) return (child) => later(() => child.kill("SIGKILL"), 600 * wait);
  if (kind < 5)
    return (child) => afterCheckpoint(child, 1 + random.int(12), () => later(() => child.kill("SIGKILL"), 10 * wait));
  const skip = random.int(5);
  return (child, out) => onCheckpoint(child, out, skip, () => later(() => child.kill("SIGKILL"), 6 * wait));
}

function later(action: () => void, ms: number): void {
  setTimeout(action, ms);
}

function afterCheckpoint(child: ChildProcess, count: number, action: () => void): void {
  let seen = 0;
  child.on("checkpoint", () => {
    if (++seen === count) action();
  });
}

/** Calls back when the temporary folder of a checkpoint appears, after `skip` others. */
function onCheckpoint(child: ChildProcess, out: string, skip: number, action: () => void): void {
  const folder = join(out, "checkpoints");
  mkdirSync(folder, { recursive: true });
  const seen = new Set<string>();
  const watcher: FSWatcher = watch(folder, (_, name) => {
    if (name === null || !name.startsWith(".tmp-step-") || seen.has(name)) return;
    seen.add(name);
    if (seen.size > skip) {
      watcher.close();
      action();
    }
  });
  child.on("exit", () => watcher.close());
}

type End = "done" | "killed" | "killed before its first checkpoint";

/** Starts a process and waits for its end. */
async function live(
  args: readonly string[],
  out: string | undefined,
  plan: (child: ChildProcess) => void,
): Promise<End> {
  if (out !== undefined) await mkdir(out, { recursive: true });
  const where = out === undefined ? [] : ["--out", out, "--resume"];
  const child = spawn(process.execPath, [mainFile, ...args, ...where], { stdio: ["ignore", "ignore", "pipe"] });
  let errors = "";
  let stepped = false;
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    errors += text;
    // With --verbose every checkpoint is announced.
    for (const _ of text.matchAll(/^saved /gm)) {
      stepped = true;
      child.emit("checkpoint");
    }
  });
  plan(child);
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve) => {
    child.on("close", (code, signal) => resolve([code, signal]));
  });
  if (code === 0) return "done";
  if (signal === "SIGKILL") return stepped ? "killed" : "killed before its first checkpoint";
  throw new Error(`${args[0]} ended with ${code ?? signal}:\n${errors}`);
}

/** What must not depend on kills: weights, optimiser state, position of the data, and the metrics less the times. */
async function fingerprint(out: string): Promise<Readonly<Record<string, string>>> {
  const checkpoints = (await readdir(join(out, "checkpoints"))).filter((name) => name.startsWith("step-")).sort();
  const last = join(out, "checkpoints", checkpoints.at(-1) as string);
  const { seconds: _, environment: __, ...state } = JSON.parse(await readFile(join(last, "state.json"), "utf8"));
  const lines = (await readFile(join(out, "metrics.jsonl"), "utf8")).trimEnd().split("\n");
  const metrics = lines.map((line) => {
    const { tokensPerSecond: _, flopsShare: __, ...rest } = JSON.parse(line);
    return rest;
  });
  return {
    "final weights": await sha256File(join(out, "model.safetensors")),
    "weights of the last checkpoint": await sha256File(join(last, "model.safetensors")),
    "optimiser state": await sha256File(join(last, "optimizer.safetensors")),
    state: JSON.stringify(state),
    metrics: JSON.stringify(metrics),
    checkpoints: checkpoints.join(),
  };
}

/** Checkpoints half written, of this process or of one killed before it. */
async function temporaries(out: string): Promise<string[]> {
  const names = await readdir(join(out, "checkpoints")).catch(() => [] as string[]);
  return names.filter((name) => name.startsWith(".tmp-step-"));
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      kills: { type: "string", default: "200" },
      seed: { type: "string", default: "1" },
      json: { type: "boolean", default: false },
    },
  });
  const result = await killAndResume({
    kills: Number(values.kills),
    seed: Number(values.seed),
    onKill: (done, where) => process.stderr.write(`kill ${done}: ${where}\n`),
  });
  if (values.json) process.stdout.write(`${JSON.stringify(result, undefined, 2)}\n`);
  else {
    process.stdout.write(
      `${result.kills} kills (${result.insideCheckpoint} inside a checkpoint, ${result.beforeFirstCheckpoint} before its first checkpoint) over ${result.runs} runs: ${result.differences.length} ended with other bits; ${result.seconds.toFixed(0)} s\n`,
    );
  }
  for (const difference of result.differences) process.stderr.write(`${difference}\n`);
  if (result.differences.length > 0) process.exitCode = 1;
}

if (process.argv[1] === import.meta.filename) await main();
