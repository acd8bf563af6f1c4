import { parseArgs } from "node:util";
import { nearestName, PlinthError } from "../base/index.ts";
import type { Command, CommandArgs, OptionSpec } from "./command.ts";

/** Flags that every command has. */
export const commonOptions: Readonly<Record<string, OptionSpec>> = {
  json: { type: "boolean", summary: "print one JSON document on standard output, everything else on standard error" },
  verbose: { type: "boolean", summary: "more detail; stack traces with errors" },
  help: { type: "boolean", summary: "show this help" },
};

/** The arguments of one call, checked against the command. Throws PlinthError naming the flag and the nearest one. */
export function parseCommandLine(command: Command, argv: readonly string[]): CommandArgs {
  const specs = { ...command.options, ...commonOptions };
  const { values, positionals } = readTokens(command, specs, argv);
  for (const [name, spec] of Object.entries(specs)) {
    const given = values.get(name);
    if (given === undefined) {
      if (spec.required === true && !values.has("help")) throw missing(command, name);
      continue;
    }
    if (given.length > 1 && spec.repeatable !== true) {
      throw new PlinthError(`--${name} is given ${given.length} times`, "give it once");
    }
    for (const value of given) checkValue(name, spec, value);
  }
  checkPositionals(command, positionals, values.has("help"));
  const last = (name: string): string | undefined => values.get(name)?.at(-1);
  return {
    positionals,
    string: last,
    strings: (name) => values.get(name) ?? [],
    number: (name) => (last(name) === undefined ? undefined : Number(last(name))),
    boolean: (name) => last(name) === "true",
    required: (name) => {
      const value = last(name);
      if (value === undefined) throw missing(command, name);
      return value;
    },
  };
}

function missing(command: Command, name: string): PlinthError {
  return new PlinthError(`plinth ${command.name}: --${name} is missing`, `for example: ${command.example}`);
}

function readTokens(command: Command, specs: Readonly<Record<string, OptionSpec>>, argv: readonly string[]) {
  const { tokens } = parseArgs({
    args: [...argv],
    strict: false,
    allowPositionals: true,
    tokens: true,
    options: Object.fromEntries(
      Object.entries(specs).map(([name, spec]) => [name, { type: spec.type === "boolean" ? "boolean" : "string" }]),
    ) as Record<string, { type: "boolean" | "string" }>,
  });
  const values = new Map<string, string[]>();
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === "positional") positionals.push(token.value);
    if (token.kind !== "option") continue;
    const negated = token.name.startsWith("no-") && specs[token.name] === undefined;
    const name = token.name === "h" ? "help" : negated ? token.name.slice(3) : token.name;
    const spec = specs[name];
    if (spec === undefined || (negated && spec.type !== "boolean")) {
      const near = nearestName(token.name, Object.keys(specs));
      throw new PlinthError(
        `plinth ${command.name}: unknown flag ${token.rawName}`,
        near === undefined ? `see plinth ${command.name} --help` : `did you mean --${near}?`,
      );
    }
    if (spec.type !== "boolean" && token.value === undefined) {
      throw new PlinthError(`plinth ${command.name}: --${name} needs a value`, `for example: ${command.example}`);
    }
    const value = spec.type === "boolean" ? (token.value ?? String(!negated)) : (token.value as string);
    values.set(name, [...(values.get(name) ?? []), value]);
  }
  return { values, positionals };
}

function checkValue(name: string, spec: OptionSpec, value: string): void {
  if (spec.type === "number" || spec.type === "integer") {
    const number = value.trim() === "" ? Number.NaN : Number(value);
    if (!Number.isFinite(number) || (spec.type === "integer" && !Number.isInteger(number))) {
      throw new PlinthError(
        `--${name} expects ${spec.type === "integer" ? "a whole number" : "a number"}, got "${value}"`,
      );
    }
  }
  if (spec.type === "boolean" && value !== "true" && value !== "false") {
    throw new PlinthError(`--${name} takes no value, got "${value}"`, `write --${name} or --no-${name}`);
  }
  if (spec.choices !== undefined && !spec.choices.includes(value)) {
    const near = nearestName(value, spec.choices);
    throw new PlinthError(
      `--${name} expects one of ${spec.choices.join(", ")}, got "${value}"`,
      near === undefined ? undefined : `did you mean ${near}?`,
    );
  }
}

function checkPositionals(command: Command, given: readonly string[], help: boolean): void {
  const specs = command.positionals ?? [];
  if (given.length > specs.length) {
    throw new PlinthError(
      `plinth ${command.name}: unexpected argument "${given[specs.length]}"`,
      `for example: ${command.example}`,
    );
  }
  const absent = specs.slice(given.length).find((spec) => spec.required);
  if (absent !== undefined && !help) {
    throw new PlinthError(`plinth ${command.name}: ${absent.name} is missing`, `for example: ${command.example}`);
  }
}

/** The text of `plinth COMMAND --help`. */
export function formatHelp(command: Command): string {
  const usage = (command.positionals ?? []).map((p) => (p.required ? p.name : `[${p.name}]`)).join(" ");
  const lines = [`plinth ${command.name}${usage === "" ? "" : ` ${usage}`} [flags]`, "", command.summary, ""];
  for (const positional of command.positionals ?? [])
    lines.push(`  ${positional.name.padEnd(26)} ${positional.summary}`);
  if ((command.positionals ?? []).length > 0) lines.push("");
  for (const [name, spec] of Object.entries({ ...command.options, ...commonOptions })) {
    const value = spec.type === "boolean" ? "" : ` ${spec.choices?.join("|") ?? spec.type.toUpperCase()}`;
    const notes = [
      spec.required === true ? "required" : undefined,
      spec.repeatable === true ? "repeatable" : undefined,
      spec.default === undefined ? undefined : `default ${spec.default}`,
    ].filter((note) => note !== undefined);
    lines.push(`  --${(name + value).padEnd(24)} ${spec.summary}${notes.length > 0 ? ` (${notes.join(", ")})` : ""}`);
  }
  lines.push("", "example:", `  ${command.example}`);
  return lines.join("\n");
}
