import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { isAbsolute, join } from "node:path";
import { createInterface, type Interface } from "node:readline";
import { packageRoot } from "../src/base/index.ts";

/** Python with the rivals installed: `PLINTH_PYTHON`, else python3. */
export const python = process.env["PLINTH_PYTHON"] ?? "python3";

/** Why a Python module cannot be used, or undefined when it can. */
export function missingModule(module: string): string | undefined {
  // Looked for, not imported, which takes seconds: one that cannot be imported has no answer when it is asked.
  const search = `import importlib.util, sys; sys.exit(importlib.util.find_spec("${module}") is None)`;
  const probe = spawnSync(python, ["-c", search], { stdio: "ignore" });
  return probe.status === 0
    ? undefined
    : `${python} has no ${module}: run bench/install-peers.sh and set PLINTH_PYTHON to its python`;
}

/** A rival kept running in another process, asked one JSON line at a time, so that the two sides can alternate. */
export class Peer {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  /** `program`: a script in bench/peers for {@link python}, or the absolute path of an executable. */
  constructor(program: string, args: readonly string[] = [], env: NodeJS.ProcessEnv = {}) {
    const command = isAbsolute(program) ? [program] : [python, join(packageRoot(), "bench", "peers", program)];
    this.#child = spawn(command[0] as string, [...command.slice(1), ...args], {
      stdio: ["pipe", "pipe", "inherit"],
      env: { ...process.env, ...env },
    });
    // A peer that cannot be started or has ended is reported by the next question, which gets no answer.
    this.#child.on("error", () => undefined);
    this.#child.stdin?.on("error", () => undefined);
    const reader: Interface = createInterface({ input: this.#child.stdout as NodeJS.ReadableStream });
    this.#lines = reader[Symbol.asyncIterator]();
  }

  /** Throws where the peer says that it cannot, or has ended. */
  async ask<T>(request: object): Promise<T> {
    this.#child.stdin?.write(`${JSON.stringify(request)}\n`);
    const line = await this.#lines.next();
    if (line.done === true) throw new Error(`the peer ended without an answer to ${JSON.stringify(request)}`);
    const answer = JSON.parse(line.value) as T & { error?: string };
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer;
  }

  /** Asks the peer to prepare itself: its version, or why it cannot. */
  async open(request: object): Promise<{ version?: string; error?: string }> {
    return this.ask<{ version: string }>(request).catch((error: Error) => ({ error: error.message }));
  }

  close(): void {
    this.#child.stdin?.end();
  }
}

/** How long a piece of work takes. */
export async function secondsOf(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}

/** Between turns: long enough for the threads of the side that has just run to stop waiting for more work. */
export function settle(milliseconds = 300): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

/** One line of `npm run bench`; `ratio` > 1 means better than the peer. */
export interface BenchRow {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  readonly peer?: string;
  readonly peerValue?: number;
  readonly ratio?: number;
  readonly target?: number;
  /** Why there is no peer value. */
  readonly note?: string;
}
