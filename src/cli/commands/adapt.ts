import { statSync } from "node:fs";
import { adapt, adapterMethods, encodeInstructions, holdOut, readInstructions } from "../../adapt/index.ts";
import { PlinthError } from "../../base/index.ts";
import {
  heldOutBatches,
  openDataset,
  packedBatches,
  type TokenDocuments,
  type Tokenizer,
  tokenDocuments,
  tokenizeDataset,
} from "../../data/index.ts";
import { headOf, type Model } from "../../models/index.ts";
import type { Command, CommandArgs, CommandIo, OptionSpec } from "../command.ts";
import { labelledData, readLabelled, withHeadFor } from "../labelled-data.ts";
import { openModel } from "../open-model.ts";
import { readTraining, reportTraining, trainingOptions } from "../training.ts";

const methods = adapterMethods().map(({ method }) => method);

const options: Readonly<Record<string, OptionSpec>> = {
  method: { type: "string", choices: methods, default: "lora", summary: "what trains" },
  data: {
    type: "string",
    summary:
      "JSONL of messages, prompt and completion, or text; of text and label, tokens and labels, question and context, or text and positive; or a folder written by plinth data build",
  },
  task: { type: "string", summary: "instead of --data: a classification task to learn, NAME=PATH as for plinth eval" },
  "held-out": { type: "number", default: 0.05, summary: "share of a JSONL file's records held out to measure on" },
  context: { type: "integer", summary: "tokens of a row (default the model's context)" },
  rank: { type: "integer", summary: "lora: rank of the additions (default 8)" },
  alpha: { type: "number", summary: "lora: scale is alpha / rank (default twice the rank)" },
  dropout: { type: "number", summary: "lora: dropout on the input of the additions (default 0)" },
  targets: { type: "string", summary: "lora: names of layers separated by commas, or all-linear (the default)" },
  rslora: { type: "boolean", summary: "lora: scale by alpha / sqrt(rank)" },
  ...trainingOptions,
  "weight-decay": { type: "number", summary: "decoupled decay of trained matrices", default: 0 },
};

export const command: Command = {
  name: "adapt",
  summary: "adapt a model to a task or a style",
  example:
    "plinth adapt runs/code --method lora --data answers.jsonl --rank 8 --targets all-linear --steps 200 --lr 1e-3 --out runs/answers",
  positionals: [{ name: "MODEL", required: true, summary: "folder of a model, a training run or a checkpoint" }],
  options,
  async run(args, io) {
    const path = args.positionals[0] as string;
    const method = args.string("method") ?? "lora";
    const labelled = await readLabelled(args);
    const isLabelled = labelled !== undefined;
    const {
      options: training,
      config,
      batchSize,
      heldOutBatches: maxBatches,
      seed,
    } = readTraining(args, io, {
      steps: 200,
      batchSize: 8,
      lr: method === "full" ? 1e-4 : 1e-3,
      warmupSteps: (steps) => Math.min(20, Math.floor(steps / 10)),
      weightDecay: 0,
      isLabelled,
    });
    const opened = await openModel(path);
    const model = labelled === undefined ? opened : withHeadFor(opened, labelled, io, seed);
    if (model.tokenizer === undefined) {
      throw new PlinthError(
        `${path}: no tokenizer.json`,
        "put the tokenizer that the model was trained with into its folder",
      );
    }
    const { data, heldOut, context, hash } =
      labelled === undefined
        ? await textData(args, io, model, { batchSize, maxBatches, seed })
        : await labelledData(labelled, model, io, {
            batchSize,
            maxBatches,
            seed,
            context: args.number("context"),
            heldOutShare: args.number("held-out") ?? 0.05,
          });
    const adapter = {
      rank: args.number("rank"),
      alpha: args.number("alpha"),
      dropout: args.number("dropout"),
      targets: args
        .string("targets")
        ?.split(",")
        .map((name) => name.trim()),
      rsLora: args.boolean("rslora") || undefined,
    };
    const given = Object.fromEntries(Object.entries(adapter).filter(([, value]) => value !== undefined)) as Given;
    const result = await adapt(model, {
      ...training,
      method,
      adapter: { ...adapter, baseModel: path },
      data,
      ...(heldOut === undefined ? {} : { heldOut }),
      config: { method, model: path, context, ...headOfRun(model), ...given, ...config },
      dataHash: hash,
    });
    reportTraining(io, training.out, result, { isLabelled });
  },
};

/** The head, where it is not the language model's, so that runs from before there were others still resume. */
function headOfRun({ config }: Model): Record<string, string | readonly string[]> {
  const { kind, labels } = headOf(config);
  return kind === "lm" ? {} : { head: kind, labels };
}

async function textData(
  args: CommandArgs,
  io: CommandIo,
  model: Model,
  { batchSize, maxBatches, seed }: { batchSize: number; maxBatches: number; seed: number },
) {
  const context = args.number("context") ?? model.config.contextLength;
  const { train, heldOut } = await readData(args, io, { tokenizer: model.tokenizer as Tokenizer, context, seed });
  return {
    data: packedBatches(train, { batchSize, context, seed }),
    heldOut: heldOut.count === 0 ? undefined : heldOutBatches(heldOut, { batchSize, context, maxBatches }),
    context,
    hash: train.hash,
  };
}

type Given = Record<string, string | number | boolean | readonly string[]>;

interface DataOptions {
  readonly tokenizer: Tokenizer;
  readonly context: number;
  readonly seed: number;
}

async function readData(
  args: CommandArgs,
  io: CommandIo,
  { tokenizer, context, seed }: DataOptions,
): Promise<{ train: TokenDocuments; heldOut: TokenDocuments }> {
  const path = args.required("data");
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) {
    return tokenizeDataset(await openDataset(path), tokenizer, { signal: io.signal });
  }
  const records = holdOut(await readInstructions(path), args.number("held-out") ?? 0.05, seed);
  const encode = async (split: keyof typeof records): Promise<TokenDocuments> => {
    if (records[split].length === 0) return tokenDocuments([], tokenizer);
    const { documents, report } = await encodeInstructions(records[split], tokenizer, {
      context,
      name: `${path}: record`,
    });
    const { truncated, dropped } = report;
    const which = split === "train" ? "" : "held-out ";
    if (truncated > 0)
      io.note(
        `${truncated} ${which}records are longer than the context of ${context} tokens and were cut at their end`,
      );
    if (dropped > 0)
      io.note(`${dropped} ${which}records were left out: their answer begins after the context of ${context} tokens`);
    return tokenDocuments(documents, tokenizer);
  };
  const data = { train: await encode("train"), heldOut: await encode("heldOut") };
  io.note(
    `${records.train.length} records to learn from (${data.train.tokenCount} tokens), ${records.heldOut.length} held out`,
  );
  return data;
}
