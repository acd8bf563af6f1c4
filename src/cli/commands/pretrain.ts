import { PlinthError } from "../../base/index.ts";
import {
  type Dataset,
  heldOutBatches,
  heldOutSentencePairs,
  type InfillingOptions,
  type JsonValue,
  openDataset,
  packedBatches,
  sentencePairBatches,
  type Tokenizer,
  tokenizeDataset,
} from "../../data/index.ts";
import { initModel, type Model, modelFamilies, modelFamily, withHead } from "../../models/index.ts";
import { pretrain, pretrainingObjectives } from "../../train/index.ts";
import type { Command, CommandArgs, CommandIo, OptionSpec } from "../command.ts";
import { generationConfig, openTokenizer } from "../new-model.ts";
import { openModel } from "../open-model.ts";
import { withRecipe } from "../recipe.ts";
import { readTraining, reportTraining, trainingOptions } from "../training.ts";

const modelOptions: Readonly<Record<string, OptionSpec>> = {
  arch: {
    type: "string",
    choices: modelFamilies().map(({ modelType }) => modelType),
    default: "gpt2",
    summary: "architecture",
  },
  layers: { type: "integer", default: 6, summary: "number of layers" },
  width: { type: "integer", default: 384, summary: "width of the residual stream" },
  heads: { type: "integer", default: 6, summary: "attention heads" },
  "kv-heads": { type: "integer", summary: "key-value heads (default as many as heads)" },
  "ffn-width": { type: "integer", summary: "width of the feed-forward layers (default as the architecture has it)" },
  context: { type: "integer", default: 256, summary: "tokens of a row, and the longest text the model reads" },
  dropout: { type: "number", default: 0, summary: "dropout rate while training" },
};

const options: Readonly<Record<string, OptionSpec>> = {
  ...modelOptions,
  init: { type: "string", summary: "model folder to train on from, instead of a new model" },
  data: { type: "string", summary: "folder written by plinth data build" },
  tokenizer: {
    type: "string",
    summary: "tokenizer folder or file, or `characters` for one token per character of the data",
  },
  batching: {
    type: "string",
    choices: ["packed", "contiguous"],
    default: "packed",
    summary: "whole documents side by side that do not see each other, or random windows of one long text",
  },
  objective: {
    type: "string",
    choices: pretrainingObjectives().map(({ name }) => name),
    summary: `${pretrainingObjectives()
      .map(({ name, summary }) => `${name}: ${summary}`)
      .join("; ")}; default as the model is`,
  },
  "fim-rate": { type: "number", summary: "share of documents rearranged to train filling in the middle (usual: 0.5)" },
  "fim-level": {
    type: "string",
    choices: ["document", "context"],
    default: "document",
    summary: "what --fim-rate rearranges: documents, or pieces of them that fit the context",
  },
  "whole-words": { type: "boolean", summary: "objective mlm: mask whole words" },
  "next-sentence": {
    type: "boolean",
    summary: "objective mlm: rows are two texts, and whether the second follows the first is learned as well (BERT)",
  },
  ...trainingOptions,
};

export const command: Command = {
  name: "pretrain",
  summary: "train a language model on a dataset, from scratch or from a model",
  example:
    "plinth pretrain --data data/code --tokenizer tokenizers/code --layers 6 --width 384 --steps 2000 --out runs/code",
  positionals: [{ name: "RECIPE.yaml", required: false, summary: "file of flags; those on the command line win" }],
  options,
  async run(given, io) {
    const args = await withRecipe(given, given.positionals[0], options);
    const {
      options: training,
      config,
      batchSize,
      heldOutBatches: maxBatches,
      seed,
    } = readTraining(args, io, {
      steps: 1000,
      batchSize: 8,
      lr: 1e-3,
      warmupSteps: (steps) => Math.min(100, Math.floor(steps / 10)),
      weightDecay: 0.1,
    });
    const dataset = await openDataset(args.required("data"));
    const { model: opened, modelConfig } = await openOrCreate(args, dataset, seed);
    const nextSentence = args.boolean("next-sentence");
    const model = nextSentence ? withHead(opened, { head: "pretraining", seed }) : opened;
    const tokenizer = model.tokenizer as Tokenizer;
    const context = Math.min(args.number("context") ?? 256, model.config.contextLength);
    const mode = args.string("batching") === "contiguous" ? "contiguous" : "packed";
    const { accumulate = 1 } = training;
    const infilling = readInfilling(args, model, { context, seed });
    const documents = await tokenizeDataset(dataset, tokenizer, {
      infilling,
      signal: io.signal,
      onProgress: ({ documents, total }) => io.progress(`tokenizing: ${documents} of ${total} documents`),
    });
    noteData(io, {
      dataset,
      tokens: documents.train.tokenCount,
      needed: training.steps * accumulate * batchSize * context,
    });
    const rows = { batchSize, context, seed, maxBatches };
    const data = nextSentence
      ? sentencePairBatches(documents.train, tokenizer, rows)
      : packedBatches(documents.train, { ...rows, mode });
    const cut = data.reports.reduce((sum, report) => sum + report.splitDocuments, 0);
    if (cut > 0) io.note(`${cut} documents are longer than the context of ${context} tokens and are read in pieces`);
    const objective = args.string("objective");
    const wholeWords = args.boolean("whole-words");
    const result = await pretrain(model, {
      ...training,
      data,
      objective,
      wholeWords,
      ...(documents.heldOut.count === 0
        ? {}
        : {
            heldOut: nextSentence
              ? heldOutSentencePairs(documents.heldOut, tokenizer, rows)
              : heldOutBatches(documents.heldOut, { ...rows, mode }),
          }),
      config: {
        ...modelConfig,
        context,
        batching: mode,
        tokenizer: tokenizer.hash,
        ...objectiveConfig(objective, wholeWords),
        ...(nextSentence ? { "next-sentence": true } : {}),
        ...(infilling === undefined
          ? {}
          : { "fim-rate": infilling.rate, "fim-level": args.string("fim-level") ?? "document" }),
        ...config,
      },
      dataHash: dataset.hash,
    });
    reportTraining(io, training.out, result);
  },
};

/** How documents are rearranged, where `--fim-rate` asks for it. Throws PlinthError where the model predicts no next token. */
function readInfilling(
  args: CommandArgs,
  { family }: Model,
  { context, seed }: { context: number; seed: number },
): InfillingOptions | undefined {
  const rate = args.number("fim-rate");
  if (rate === undefined) return undefined;
  const { kind = "decoder", modelType } = family;
  if (kind !== "decoder") {
    throw new PlinthError(
      `--fim-rate: ${modelType} does not predict the next token`,
      "leave it out, or train a decoder",
    );
  }
  // room for the beginning and end of text, the three tokens, and what two cuts add
  return { rate, seed, pieces: args.string("fim-level") === "context" ? context - 10 : "document" };
}

/** Only what was asked for, so that runs from before these flags still resume. */
function objectiveConfig(objective: string | undefined, wholeWords: boolean): Record<string, JsonValue> {
  return { ...(objective === undefined ? {} : { objective }), ...(wholeWords ? { wholeWords } : {}) };
}

/** The model that training starts from, with its tokenizer, and the plain values that describe it. */
async function openOrCreate(args: CommandArgs, dataset: Dataset, seed: number) {
  const init = args.string("init");
  if (init !== undefined) {
    for (const name of ["arch", "layers", "width", "heads", "kv-heads", "ffn-width", "dropout", "tokenizer"]) {
      if (args.string(name) === undefined) continue;
      throw new PlinthError(
        `--${name} and --init are both given`,
        `leave --${name} out: the model of --init has its own`,
      );
    }
    const model = await openModel(init);
    if (model.tokenizer !== undefined) return { model, modelConfig: { init } };
    throw new PlinthError(
      `${init}: no tokenizer.json`,
      "put the tokenizer that the model was trained with into its folder",
    );
  }
  const dials = {
    arch: args.string("arch") ?? "gpt2",
    layers: args.number("layers") ?? 6,
    width: args.number("width") ?? 384,
    heads: args.number("heads") ?? 6,
    "kv-heads": args.number("kv-heads") ?? null,
    "ffn-width": args.number("ffn-width") ?? null,
    dropout: args.number("dropout") ?? 0,
  };
  const tokenizer = await openTokenizer(args.required("tokenizer"), dataset);
  const family = modelFamily(dials.arch, "--arch");
  const config = family.createConfig({
    vocabSize: tokenizer.vocabSize,
    contextLength: args.number("context") ?? 256,
    hiddenSize: dials.width,
    numLayers: dials.layers,
    numHeads: dials.heads,
    numKvHeads: dials["kv-heads"] ?? undefined,
    intermediateSize: dials["ffn-width"] ?? undefined,
    dropout: dials.dropout,
    bosTokenId: tokenizer.bosId,
    eosTokenId: tokenizer.eosId,
  });
  const model: Model = {
    ...initModel(family, config, { seed }),
    tokenizer,
    generationConfig: generationConfig(tokenizer),
  };
  return { model, modelConfig: dials };
}

function noteData(
  io: CommandIo,
  { dataset, tokens, needed }: { dataset: Dataset; tokens: number; needed: number },
): void {
  const { train, heldOut } = dataset.manifest.splits;
  io.note(
    `${train.documents} documents, ${tokens} tokens; the run reads them ${(needed / tokens).toFixed(1)} times; ${heldOut.documents} documents held out`,
  );
}
