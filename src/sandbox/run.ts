import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { PlinthError } from "../base/index.ts";
import { chooseMechanism, environment } from "./detect.ts";
import type { Isolation, Mechanism } from "./isolation.ts";
import { findInterpreter, type Interpreter, type Language, translate } from "./languages.ts";
import { resolveLimits, type SandboxLimits } from "./limits.ts";
import { treeUsage } from "./watch.ts";

export interface Program {
  readonly language: Language;
  readonly source: string;
  /** Run after the source, in the same scope; the process does not have them before the source has run through. */
  readonly tests?: string | undefined;
  readonly stdin?: string | undefined;
}

export interface SandboxOptions {
  readonly limits?: Partial<SandboxLimits> | undefined;
  /** Run even where the program can reach network and files. Default false. */
  readonly allowUnsafe?: boolean | undefined;
  /** Python interpreter; default python3. */
  readonly python?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * How a run ended: source and tests ran through (`passed`), they did not (`failed`: an exception, an early exit, a
 * crash), or a limit was reached.
 */
export type Outcome = "passed" | "failed" | "time" | "memory" | "processes" | "output";

export interface ProgramResult {
  readonly outcome: Outcome;
  /** Why it did not pass, in a line. */
  readonly reason: string | undefined;
  readonly stdout: string;
  readonly stderr: string;
  readonly seconds: number;
  readonly isolation: Isolation;
}

/** Milliseconds between two looks at a program's memory. */
const watchInterval = 25;

/**
 * Runs a program that nobody has read: in processes of its own without network, without files but a small temporary
 * folder, within limits; all of them are killed and the folder is gone when this returns. It shares its process with
 * its tests, as in every harness of this kind, so a program written against this one could still pass them.
 * Throws PlinthError when it cannot be isolated and `allowUnsafe` was not given, or the interpreter is missing, and the
 * signal's reason when aborted.
 */
export async function runProgram(program: Program, options: SandboxOptions = {}): Promise<ProgramResult> {
  const limits = resolveLimits(options.limits);
  options.signal?.throwIfAborted();
  const mechanism = chooseMechanism(options.allowUnsafe ?? false);
  const interpreter = await findInterpreter(program.language, options.python);
  const { language } = program;
  let texts: readonly [source: string, tests: string];
  try {
    texts = [await translate(language, program.source), await translate(language, program.tests ?? "")];
  } catch (error) {
    const reason = (error as Error).message;
    return { outcome: "failed", reason, stdout: "", stderr: reason, seconds: 0, isolation: mechanism.isolation };
  }
  const folder = await mkdtemp(join(tmpdir(), "plinth-sandbox-"));
  try {
    await chmod(folder, 0o755);
    return await run({ mechanism, interpreter, language, texts, folder, limits }, program.stdin ?? "", options.signal);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

interface Prepared {
  readonly mechanism: Mechanism;
  readonly interpreter: Interpreter;
  readonly language: Language;
  readonly texts: readonly [source: string, tests: string];
  readonly folder: string;
  readonly limits: SandboxLimits;
}

/** Starts the process, feeds it, keeps its limits and waits until all of it is gone. */
function run(prepared: Prepared, stdin: string, signal: AbortSignal | undefined): Promise<ProgramResult> {
  const { mechanism, interpreter, language, texts, folder, limits } = prepared;
  const { command, readable } = interpreter;
  const [file = "", ...args] = mechanism.wrap({ command, readable, folder, limits, language });
  const password = randomBytes(16).toString("hex");
  const start = performance.now();
  const child = spawn(file, args, {
    env: environment,
    cwd: folder,
    detached: true,
    stdio: ["pipe", "pipe", "pipe", "pipe", "pipe"],
  });
  const [toStdin, stdout, stderr, inbox, outbox] = child.stdio as [Writable, Readable, Readable, Writable, Readable];
  let limit: Outcome | undefined;
  const kill = (outcome?: Outcome) => {
    limit ??= outcome;
    try {
      if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
    } catch {
      // gone already
    }
  };

  // a program that does not read what it is sent is no error of ours
  for (const stream of [toStdin, inbox]) stream.on("error", () => undefined);
  toStdin.end(stdin);
  send(inbox, texts[0]);
  let output = 0;
  const collect = (stream: Readable): Buffer[] => {
    const chunks: Buffer[] = [];
    stream.on("data", (chunk: Buffer) => {
      output += chunk.length;
      if (output > limits.outputBytes) kill("output");
      else chunks.push(chunk);
    });
    return chunks;
  };
  const out = collect(stdout);
  const err = collect(stderr);
  let said = "";
  outbox.on("data", (chunk: Buffer) => {
    if (said.length > 4096) return;
    const before = said;
    said += chunk.toString("latin1");
    if (!before.startsWith(opening) && said.startsWith(opening)) {
      send(inbox, texts[1]);
      send(inbox, password);
      inbox.end();
    }
  });

  const clock = setTimeout(() => kill("time"), limits.wallSeconds * 1000);
  const watch = setInterval(() => {
    const usage = treeUsage(child.pid ?? 0);
    if (usage.bytes > limits.memoryBytes) kill("memory");
    else if (usage.tasks > limits.processes + ownTasks) kill("processes");
  }, watchInterval);
  const abort = () => kill();
  signal?.addEventListener("abort", abort);
  let letGo: NodeJS.Timeout | undefined;
  const finish = () => {
    clearTimeout(clock);
    clearTimeout(letGo);
    clearInterval(watch);
    signal?.removeEventListener("abort", abort);
  };
  return new Promise((resolve, reject) => {
    child.on("error", (error) => {
      finish();
      reject(error);
    });
    child.on("exit", () => {
      kill();
      // without namespaces something may live on and hold the other ends
      letGo = setTimeout(() => {
        for (const stream of child.stdio) stream?.destroy();
      }, 500);
    });
    child.on("close", (code, killedBy) => {
      finish();
      if (signal?.aborted === true) return reject(signal.reason as Error);
      const written = { stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() };
      if (!said.startsWith("ready\n") && limit === undefined) {
        const cause = written.stderr.trim().slice(0, 300);
        return reject(new PlinthError(`the sandbox could not be set up: ${cause}`, "try again"));
      }
      const isPassed = limit === undefined && said === `${opening}${password}`;
      const verdict = isPassed ? passed : explain(limit, code, killedBy, written.stderr, limits);
      const seconds = (performance.now() - start) / 1000;
      resolve({ ...verdict, ...written, seconds, isolation: mechanism.isolation });
    });
  });
}

/** What the sandbox itself runs beside the program. */
const ownTasks = 3;
const opening = "ready\ndefined\n";
const passed: Verdict = { outcome: "passed", reason: undefined };

type Verdict = Pick<ProgramResult, "outcome" | "reason">;

function send(stream: Writable, text: string): void {
  stream.write(`${Buffer.byteLength(text)}\n${text}`);
}

function explain(
  limit: Outcome | undefined,
  code: number | null,
  signal: NodeJS.Signals | null,
  stderr: string,
  limits: SandboxLimits,
): Verdict {
  const megabytes = `${Math.round(limits.memoryBytes / 2 ** 20)} MB`;
  switch (limit) {
    case "time":
      return { outcome: "time", reason: `longer than ${limits.wallSeconds} s` };
    case "memory":
      return { outcome: "memory", reason: `more than ${megabytes} of memory` };
    case "processes":
      return { outcome: "processes", reason: `more than ${limits.processes} processes` };
    case "output":
      return { outcome: "output", reason: `more than ${limits.outputBytes} bytes of output` };
  }
  const last = stderr.trim().split("\n").at(-1) ?? "";
  const cpuSignal = 128 + 24;
  if (code === cpuSignal) return { outcome: "time", reason: `more than ${limits.cpuSeconds} s of processor time` };
  if (/^MemoryError|heap out of memory|Cannot allocate memory/m.test(stderr)) {
    return { outcome: "memory", reason: `more than ${megabytes} of memory` };
  }
  if (code === 0) return { outcome: "failed", reason: "it ended before its tests had run" };
  return { outcome: "failed", reason: (last || `exit code ${code ?? signal}`).slice(0, 300) };
}
