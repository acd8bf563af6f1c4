import { existsSync } from "node:fs";
import { join } from "node:path";
import { readJson } from "../base/index.ts";
import { hostInfo, type Precision, precisions } from "../engine/index.ts";
import type { CommandArgs, CommandIo, OptionSpec } from "./command.ts";

const spec: OptionSpec = {
  type: "string",
  choices: precisions,
  summary: "arithmetic: float32, or products on bfloat16 operands with float32 sums",
};

/** The flag of commands that train. */
export const precisionOption: Readonly<Record<string, OptionSpec>> = { precision: { ...spec, default: "f32" } };

/** The flag of commands that run a model as it is. */
export const modelPrecisionOption: Readonly<Record<string, OptionSpec>> = {
  precision: { ...spec, summary: `${spec.summary} (default as its run was trained, else f32)` },
};

export function readPrecision(args: CommandArgs): Precision {
  return toPrecision(args.string("precision")) ?? "f32";
}

/**
 * The flag's precision, else that in which the run that made the adapter (--adapter) or the model was trained, so that it
 * computes what it has learned to compute; else float32.
 */
export async function readModelPrecision(args: CommandArgs, io: CommandIo): Promise<Precision> {
  const given = toPrecision(args.string("precision"));
  if (given !== undefined) return given;
  for (const folder of [args.string("adapter"), args.positionals[0]]) {
    const trained = folder === undefined ? undefined : await trainedPrecision(folder);
    if (trained === undefined) continue;
    if (trained !== "f32") io.note(`${trained}, as ${folder} was trained; --precision f32 for float32`);
    return trained;
  }
  return "f32";
}

/** What the record of a run (`run.json`), or of a checkpoint (`state.json`), says; undefined for other folders. */
async function trainedPrecision(folder: string): Promise<Precision | undefined> {
  const path = ["run.json", "state.json"].map((name) => join(folder, name)).find((file) => existsSync(file));
  if (path === undefined) return undefined;
  const record = (await readJson(path)) as { readonly config?: { readonly precision?: unknown } } | null;
  return toPrecision(record?.config?.precision);
}

function toPrecision(value: unknown): Precision | undefined {
  return precisions.find((precision) => precision === value);
}

/** Says once where bfloat16 brings less memory but no speed. */
export function notePrecision(io: CommandIo, precision: Precision): void {
  const { native } = hostInfo();
  if (precision === "f32" || ("isa" in native && native.isa === "avx512bf16")) return;
  io.note("bf16: this CPU has no bfloat16 instructions; operands are rounded in software, at the speed of float32");
}
