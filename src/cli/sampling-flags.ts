import type { RequestOptions } from "../generate/index.ts";
import type { CommandArgs, OptionSpec } from "./command.ts";
import { modelPrecisionOption } from "./precision-flag.ts";

/** Flags of the commands that generate text. */
export const samplingOptions: Readonly<Record<string, OptionSpec>> = {
  adapter: { type: "string", summary: "folder of an adapter for the model" },
  "max-tokens": { type: "integer", summary: "tokens to generate at most", default: 256 },
  temperature: { type: "number", summary: "0 = always the likeliest token (default as the model asks for, else 1)" },
  "top-k": { type: "integer", summary: "choose among the k likeliest tokens" },
  "top-p": { type: "number", summary: "choose among the likeliest tokens that make up this probability" },
  "min-p": { type: "number", summary: "leave out tokens less likely than this fraction of the likeliest" },
  "repetition-penalty": { type: "number", summary: "above 1: make tokens that occurred less likely" },
  stop: { type: "string", summary: "end before this text (\\n = line end)", repeatable: true },
  ...modelPrecisionOption,
  seed: { type: "integer", summary: "repeat the same random choices" },
};

export function readSampling(args: CommandArgs): RequestOptions {
  return {
    maxTokens: args.number("max-tokens"),
    temperature: args.number("temperature"),
    topK: args.number("top-k"),
    topP: args.number("top-p"),
    minP: args.number("min-p"),
    repetitionPenalty: args.number("repetition-penalty"),
    stop: args.strings("stop").map(withEscapes),
    seed: args.number("seed"),
  };
}

function withEscapes(text: string): string {
  const escapes: Readonly<Record<string, string>> = { n: "\n", t: "\t", r: "\r", "\\": "\\" };
  return text.replaceAll(/\\([ntr\\])/g, (_, letter: string) => escapes[letter] as string);
}
