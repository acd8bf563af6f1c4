import { readFile } from "node:fs/promises";
import { text as readAll } from "node:stream/consumers";
import { explainReadError, PlinthError } from "../../base/index.ts";
import { quantizedFormats } from "../../engine/index.ts";
import { type Generation, generate, infillingOrders, infillingPrompt } from "../../generate/index.ts";
import type { Command, CommandArgs } from "../command.ts";
import { openModel } from "../open-model.ts";
import { readModelPrecision } from "../precision-flag.ts";
import { readSampling, samplingOptions } from "../sampling-flags.ts";

export const command: Command = {
  name: "generate",
  summary: "continue a text",
  example: 'plinth generate runs/small --prompt "Once upon a time" --max-tokens 100 --temperature 0.8',
  positionals: [{ name: "MODEL", required: true, summary: "folder of a model, a training run or a checkpoint" }],
  options: {
    prompt: { type: "string", summary: "text to continue" },
    "prompt-file": { type: "string", summary: "file with the text to continue (default: standard input)" },
    suffix: { type: "string", summary: "text that comes after: the model fills in between prompt and suffix" },
    "fim-order": {
      type: "string",
      choices: infillingOrders,
      summary: "with --suffix: what comes first in the prompt, prefix or suffix (default psm; spm where trained on it)",
    },
    ...samplingOptions,
    quantize: {
      type: "string",
      choices: quantizedFormats,
      summary: "run with weights of 4 or 8 bits: less memory, more tokens a second, a little less exact",
    },
    logprobs: { type: "integer", summary: "with --json: also the n likeliest tokens at each place" },
  },
  async run(args, io) {
    const prompt = await readPrompt(args);
    const format = quantizedFormats.find((name) => name === args.string("quantize"));
    const quantization = format === undefined ? undefined : { format };
    const model = await openModel(args.positionals[0] as string, args.string("adapter"), quantization);
    const logprobs = args.number("logprobs") ?? (io.json ? 0 : undefined);
    const precision = await readModelPrecision(args, io);
    const options = { ...readSampling(args), precision, logprobs, signal: io.signal };
    const suffix = args.string("suffix");
    const fimOrder = args.string("fim-order");
    if (fimOrder !== undefined && suffix === undefined) {
      throw new PlinthError("--fim-order without --suffix", "give the text that comes after the gap as --suffix TEXT");
    }
    const order = infillingOrders.find((name) => name === fimOrder);
    const input =
      suffix === undefined
        ? prompt
        : await infillingPrompt(model, { prefix: prompt, suffix }, { maxTokens: options.maxTokens, order });
    let result: Generation | undefined;
    for await (const event of generate(model, [input], options)) {
      if (result === undefined && event.type === "token") io.write(event.text);
      if (event.type === "end") {
        io.write(`${event.text}\n`);
        result = event.result;
      }
    }
    if (result === undefined) throw new Error("generate: no result.");
    const { text, tokens, topLogprobs, finishReason, tokensPerSecond } = result;
    io.result({
      prompt,
      ...(suffix === undefined ? {} : { suffix }),
      text,
      tokens,
      logprobs: result.logprobs,
      ...(topLogprobs === undefined ? {} : { topLogprobs }),
      finishReason,
      tokensPerSecond,
    });
    io.note(
      `${tokens.length} tokens, ${tokensPerSecond.toFixed(1)} tokens/s, ended by ${finishReason}, seed ${result.seed}`,
    );
  },
};

/** One line end at the end of a file or of standard input is not part of the prompt. */
async function readPrompt(args: CommandArgs): Promise<string> {
  const prompt = args.string("prompt");
  const file = args.string("prompt-file");
  if (prompt !== undefined && file !== undefined) {
    throw new PlinthError("--prompt and --prompt-file are both given", "give one of them");
  }
  if (prompt !== undefined) return prompt;
  if (file !== undefined) {
    const text = await readFile(file, "utf8").catch((error: unknown) => {
      throw explainReadError(error, file);
    });
    return text.replace(/\r?\n$/, "");
  }
  if (process.stdin.isTTY === true) {
    throw new PlinthError("no prompt", "give --prompt TEXT or --prompt-file FILE, or pipe a text in");
  }
  return (await readAll(process.stdin)).replace(/\r?\n$/, "");
}
