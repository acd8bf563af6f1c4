import { readFile } from "node:fs/promises";
import { parse, YAMLParseError } from "yaml";
import { explainReadError, nearestName, PlinthError } from "../base/index.ts";
import type { CommandArgs, OptionSpec } from "./command.ts";

/** Flags that make no sense in a file. */
const commandLineOnly = ["resume", "json", "verbose", "help"];

/**
 * Arguments where flags that were not given come from a recipe: a YAML file of the same names. Paths in it are relative
 * to the working folder, as on the command line. Throws PlinthError naming an unknown key and the nearest known one, or
 * a value of the wrong type.
 */
export async function withRecipe(
  args: CommandArgs,
  path: string | undefined,
  options: Readonly<Record<string, OptionSpec>>,
): Promise<CommandArgs> {
  if (path === undefined) return args;
  const values = await readRecipe(path, options);
  return {
    positionals: args.positionals,
    string: (name) => args.string(name) ?? values.get(name)?.at(-1),
    strings: (name) => (args.strings(name).length > 0 ? args.strings(name) : (values.get(name) ?? [])),
    number(name) {
      const given = args.number(name);
      const value = values.get(name)?.at(-1);
      return given ?? (value === undefined ? undefined : Number(value));
    },
    boolean: (name) => (args.string(name) ?? values.get(name)?.at(-1)) === "true",
    required: (name) => args.string(name) ?? values.get(name)?.at(-1) ?? args.required(name),
  };
}

async function readRecipe(
  path: string,
  options: Readonly<Record<string, OptionSpec>>,
): Promise<Map<string, readonly string[]>> {
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    throw explainReadError(error, path);
  });
  let document: unknown;
  try {
    document = parse(text);
  } catch (error) {
    if (!(error instanceof YAMLParseError)) throw error;
    throw new PlinthError(`${path}: not valid YAML (${error.message.split("\n")[0]})`, "correct the file");
  }
  if (typeof document !== "object" || document === null || Array.isArray(document)) {
    throw new PlinthError(`${path}: expected flags and their values, one "name: value" on a line`, "see recipes/");
  }
  const allowed = Object.keys(options).filter((name) => !commandLineOnly.includes(name));
  const values = new Map<string, readonly string[]>();
  for (const [name, value] of Object.entries(document)) {
    const spec = allowed.includes(name) ? options[name] : undefined;
    if (spec === undefined) {
      const near = nearestName(name, allowed);
      throw new PlinthError(
        `${path}: unknown key "${name}"`,
        near === undefined ? `use one of ${allowed.join(", ")}` : `did you mean "${near}"?`,
      );
    }
    const list: readonly unknown[] = Array.isArray(value) && spec.repeatable === true ? value : [value];
    values.set(
      name,
      list.map((item) => checkedValue(item, spec, `${path}: ${name}`)),
    );
  }
  return values;
}

function checkedValue(value: unknown, spec: OptionSpec, where: string): string {
  const expected = { string: "text", number: "a number", integer: "a whole number", boolean: "true or false" }[
    spec.type
  ];
  const fits =
    spec.type === "string"
      ? typeof value === "string" || typeof value === "number"
      : spec.type === "boolean"
        ? typeof value === "boolean"
        : typeof value === "number" && (spec.type === "number" ? Number.isFinite(value) : Number.isInteger(value));
  if (!fits)
    throw new PlinthError(`${where}: expected ${expected}, got ${JSON.stringify(value)}`, "correct the recipe");
  if (spec.choices !== undefined && !spec.choices.includes(String(value))) {
    throw new PlinthError(
      `${where}: expected one of ${spec.choices.join(", ")}, got ${JSON.stringify(value)}`,
      "correct the recipe",
    );
  }
  return String(value);
}
