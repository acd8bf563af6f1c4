#!/usr/bin/env node
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { nearestName, PlinthError, packageRoot } from "../base/index.ts";
import type { Command } from "./command.ts";
import { createIo, type Streams } from "./io.ts";
import { formatHelp, parseCommandLine } from "./parse.ts";

/** Order of the overview; commands not listed here follow in alphabetical order. */
const overviewOrder = [
  "quickstart",
  "doctor",
  "data",
  "tokenizer",
  "pretrain",
  "adapt",
  "generate",
  "chat",
  "eval",
  "scale",
  "bench",
];

/**
 * Runs one command line and returns the exit code: 0 done, 1 the command line is wrong or the command failed, 130 stopped
 * by Ctrl-C.
 */
export async function main(argv: readonly string[], streams: Streams = { out: process.stdout, err: process.stderr }) {
  const verbose = argv.includes("--verbose");
  const interrupt = new AbortController();
  const onInterrupt = (): void => {
    if (interrupt.signal.aborted) process.exit(130);
    interrupt.abort();
    streams.err.write("\nstopping and saving; press Ctrl-C again to stop at once\n");
  };
  process.on("SIGINT", onInterrupt);
  process.on("SIGTERM", onInterrupt);
  try {
    if (argv[0] === "--version" || argv[0] === "-v") {
      const manifest = JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8")) as { version: string };
      streams.out.write(`${manifest.version}\n`);
      return 0;
    }
    const commands = commandFiles();
    if (argv.length === 0 || argv[0] === "--help" || argv[0] === "-h" || argv[0] === "help") {
      streams.out.write(`${await overview(commands)}\n`);
      return 0;
    }
    const { command, rest } = await findCommand(commands, argv);
    const args = parseCommandLine(command, rest);
    if (args.boolean("help")) {
      streams.out.write(`${formatHelp(command)}\n`);
      return 0;
    }
    const io = createIo(streams, { json: args.boolean("json"), verbose, signal: interrupt.signal });
    await command.run(args, io);
    return interrupt.signal.aborted ? 130 : 0;
  } catch (error) {
    if (interrupt.signal.aborted && (error as Error).name === "AbortError") {
      streams.err.write("stopped before it was done; give the same command again to start over\n");
      return 130;
    }
    const known = error instanceof PlinthError;
    streams.err.write(`\n${known ? `error: ${error.message}` : unexpected(error, verbose)}\n`);
    if (known && verbose) streams.err.write(`${error.stack}\n`);
    return interrupt.signal.aborted ? 130 : 1;
  } finally {
    process.off("SIGINT", onInterrupt);
    process.off("SIGTERM", onInterrupt);
  }
}

function unexpected(error: unknown, verbose: boolean): string {
  if (!(error instanceof Error)) return `error: ${String(error)}`;
  return verbose ? `${error.stack}` : `error: ${error.message}\n(run again with --verbose for the stack trace)`;
}

/** Files beside this one that hold commands, by the command's words: `data-build.js` is `data build`. */
function commandFiles(): ReadonlyMap<string, string> {
  const folder = join(import.meta.dirname, "commands");
  const files = readdirSync(folder).filter((file) => /\.(js|ts)$/.test(file) && !file.endsWith(".d.ts"));
  return new Map(files.sort().map((file) => [file.replace(/\.(js|ts)$/, "").replaceAll("-", " "), join(folder, file)]));
}

async function load(file: string): Promise<Command> {
  return ((await import(file)) as { command: Command }).command;
}

async function findCommand(commands: ReadonlyMap<string, string>, argv: readonly string[]) {
  for (const words of [2, 1]) {
    const file = argv.length >= words ? commands.get(argv.slice(0, words).join(" ")) : undefined;
    if (file !== undefined) return { command: await load(file), rest: argv.slice(words) };
  }
  const names = [...commands.keys()];
  const group = names.filter((name) => name.startsWith(`${argv[0]} `));
  if (group.length > 0) throw new PlinthError(`plinth ${argv[0]}: choose one of ${group.join(", ")}`);
  const near = nearestName(argv[0] as string, names);
  throw new PlinthError(
    `unknown command "${argv[0]}"`,
    near === undefined ? "see plinth --help" : `did you mean plinth ${near}?`,
  );
}

async function overview(commands: ReadonlyMap<string, string>): Promise<string> {
  const rank = (name: string): number => {
    const at = overviewOrder.indexOf(name.split(" ")[0] as string);
    return at < 0 ? overviewOrder.length : at;
  };
  const names = [...commands.keys()].sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
  const lines = ["plinth COMMAND [flags]: pretrain, adapt, evaluate and use foundation models", ""];
  for (const name of names) lines.push(`  ${name.padEnd(18)} ${(await load(commands.get(name) as string)).summary}`);
  lines.push("", "plinth COMMAND --help shows the flags of a command and an example.");
  return lines.join("\n");
}

/** True when this module is the program, also through a symbolic link such as node_modules/.bin/plinth. */
function isProgram(): boolean {
  const { realpathSync } = process.getBuiltinModule("node:fs");
  return process.argv[1] !== undefined && realpathSync(process.argv[1]) === import.meta.filename;
}

if (isProgram()) {
  // A reader that has seen enough (`plinth eval ... | head`) is no reason to lose the work.
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") throw error;
    });
  }
  process.exitCode = await main(process.argv.slice(2));
}
