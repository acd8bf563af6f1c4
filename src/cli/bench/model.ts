import { existsSync } from "node:fs";
import { PlinthError } from "../../base/index.ts";
import { Tokenizer } from "../../data/index.ts";
import type { Precision } from "../../engine/index.ts";
import { castParams, expectDecoder, initModel, type Model, modelFamily } from "../../models/index.ts";
import type { CommandArgs, CommandIo } from "../command.ts";
import { openModel } from "../open-model.ts";

/** The GPT of 12.3M parameters that the benches race. */
export const defaults = { arch: "gpt2", layers: 6, width: 384, heads: 6, context: 256, vocab: 4096, batchSize: 8 };

/** What is measured: a model with random or loaded weights, and how it runs. */
export interface Subject {
  /** A model of its own for every measurement: training consumes the weights. */
  readonly open: () => Promise<Model>;
  readonly batchSize: number;
  readonly context: number;
  readonly optimizer: string;
  /** As given; absent: measure both. */
  readonly precision: Precision | undefined;
  /** Encoders do not generate. */
  readonly isEncoder: boolean;
  /** The choices in a line. */
  readonly text: string;
}

/** Reads the flags that describe the model and its batch. Throws PlinthError for sizes that cannot be. */
export async function readSubject(args: CommandArgs, io: CommandIo, decode: boolean): Promise<Subject> {
  const size = (name: string, fallback: number): number => {
    const value = args.number(name) ?? fallback;
    if (value < 1) throw new PlinthError(`--${name} expects a number above 0, got ${value}`);
    return value;
  };
  const batchSize = size("batch-size", decode ? 1 : defaults.batchSize);
  const optimizer = args.string("optimizer") ?? "adamw";
  const precision = args.string("precision") as Precision | undefined;
  const folder = args.string("init");
  if (folder !== undefined) {
    const { config, family } = await openModel(folder);
    if (decode) expectDecoder(family, "--decode");
    const context = Math.min(size("context", defaults.context), config.contextLength);
    const open = async (): Promise<Model> => {
      const model = await openModel(folder);
      return decode ? model : { ...model, params: castParams(model.params, "float32") };
    };
    const isEncoder = family.kind === "encoder";
    return {
      open,
      batchSize,
      context,
      optimizer,
      precision,
      isEncoder,
      text: `${folder}, ${batchSize} x ${context} tokens`,
    };
  }
  const arch = args.string("arch") ?? defaults.arch;
  const [layers, width] = [size("layers", defaults.layers), size("width", defaults.width)];
  const heads = size("heads", width % 64 === 0 ? width / 64 : defaults.heads);
  const context = size("context", defaults.context);
  const vocab = args.number("vocab") === undefined ? await vocabOf(args.string("tokenizer"), io) : size("vocab", 0);
  const family = modelFamily(arch, "--arch");
  if (decode) expectDecoder(family, "--decode");
  const config = family.createConfig({
    vocabSize: vocab,
    contextLength: context,
    hiddenSize: width,
    numLayers: layers,
    numHeads: heads,
    numKvHeads: args.number("kv-heads"),
    intermediateSize: args.number("ffn-width"),
  });
  return {
    open: async () => initModel(family, config, { seed: 0 }),
    batchSize,
    context,
    optimizer,
    precision,
    isEncoder: family.kind === "encoder",
    text: `${arch}, ${layers} layers of width ${width}, vocabulary ${vocab}, ${batchSize} x ${context} tokens`,
  };
}

/** Random tokens need a vocabulary but no tokenizer; a recipe's is asked where it is a file that exists. */
async function vocabOf(tokenizer: string | undefined, io: CommandIo): Promise<number> {
  if (tokenizer === undefined) return defaults.vocab;
  if (existsSync(tokenizer)) return (await Tokenizer.load(tokenizer)).vocabSize;
  const assumed = tokenizer === "characters" ? 65 : defaults.vocab;
  io.note(
    `the size of the vocabulary is not known before the data is read: ${assumed} assumed, --vocab says otherwise`,
  );
  return assumed;
}
