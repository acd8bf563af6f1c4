import { hostInfo, type Precision, precisions } from "../engine/index.ts";
import type { CommandArgs, CommandIo, OptionSpec } from "./command.ts";

/** The flag of every command that runs a model. */
export const precisionOption: Readonly<Record<string, OptionSpec>> = {
  precision: {
    type: "string",
    choices: precisions,
    default: "f32",
    summary: "arithmetic: float32, or products on bfloat16 operands with float32 sums",
  },
};

export function readPrecision(args: CommandArgs): Precision {
  return args.string("precision") === "bf16" ? "bf16" : "f32";
}

/** Says once where bfloat16 brings less memory but no speed. */
export function notePrecision(io: CommandIo, precision: Precision): void {
  const { native } = hostInfo();
  if (precision === "f32" || ("isa" in native && native.isa === "avx512bf16")) return;
  io.note("bf16: this CPU has no bfloat16 instructions; operands are rounded in software, at the speed of float32");
}
