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
import type { Command, CommandArgs, CommandIo, OptionSpec } from "../command.ts";
import { openModel } from "../open-model.ts";
import { readTraining, reportTraining, trainingOptions } from "../training.ts";

const methods = adapterMethods().map(({ method }) => method);

const options: Readonly<Record<string, OptionSpec>> = {
  method: { type: "string", choices: methods, default: "lora", summary: "what trains" },
  data: {
    type: "string",
    required: true,
    summary: "JSONL of messages, prompt and completion, or text; or a folder written by plinth data build",
  },
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
    });
    const model = await openModel(path);
    if (model.tokenizer === undefined) {
      throw new PlinthError(
        `${path}: no tokenizer.json`,
        "put the tokenizer that the model was trained with into its folder",
      );
    }
    const context = args.number("context") ?? model.config.contextLength;
    const { train, heldOut } = await readData(args, io, { tokenizer: model.tokenizer, context, seed });
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
      data: packedBatches(train, { batchSize, context, seed }),
      ...(heldOut.count === 0 ? {} : { heldOut: heldOutBatches(heldOut, { batchSize, context, maxBatches }) }),
      config: { method, model: path, context, ...given, ...config },
      dataHash: train.hash,
    });
    reportTraining(io, training.out, result);
  },
};
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
