import { join } from "node:path";
import { PlinthError } from "../../base/index.ts";
import { openDataset, type Tokenizer, tokenizeDataset } from "../../data/index.ts";
import { modelFamilies } from "../../models/index.ts";
import type { Command, CommandArgs, CommandIo, OptionSpec } from "../command.ts";
import { openTokenizer } from "../new-model.ts";
import { notePrecision, precisionOption, readPrecision } from "../precision-flag.ts";
import { withRecipe } from "../recipe.ts";
import { openSweep, readNumbers, type Sweep } from "../scale/plan.ts";
import { reportMarkdown, type SweepReport } from "../scale/report.ts";
import { Stopped } from "../scale/run.ts";
import { type ShapeOptions, shapeNear, shapesOf } from "../scale/shapes.ts";
import { runSweep } from "../scale/sweep.ts";

const decoders = modelFamilies().filter(({ kind = "decoder" }) => kind === "decoder");

const options: Readonly<Record<string, OptionSpec>> = {
  data: { type: "string", summary: "folder written by plinth data build" },
  tokenizer: {
    type: "string",
    summary: "tokenizer folder or file, or `characters` for one token per character of the data",
  },
  arch: {
    type: "string",
    choices: decoders.map(({ modelType }) => modelType),
    default: "gpt2",
    summary: "architecture",
  },
  sizes: { type: "string", summary: "parameters of the models, such as 30k,100k,300k (embeddings not counted)" },
  "budget-flops": { type: "string", summary: "training FLOPs, such as 1e11,3e11: every size is trained for each" },
  tokens: { type: "string", summary: "training tokens, such as 500k,1M: every size is trained on each, besides" },
  predict: { type: "string", summary: "the next size: predicted from the others, then trained" },
  "predict-flops": { type: "number", summary: "its training FLOPs (default the next in the series of budgets)" },
  layers: { type: "integer", default: 4, summary: "layers of every size: what grows is the width" },
  "head-width": { type: "integer", default: 16, summary: "width of an attention head" },
  context: { type: "integer", default: 128, summary: "tokens of a row" },
  batching: { type: "string", choices: ["packed", "contiguous"], default: "packed", summary: "as plinth pretrain" },
  "batch-size": { type: "integer", default: 16, summary: "rows of a step" },
  mup: {
    type: "boolean",
    default: true,
    summary:
      "scale initial weights and learning rates with the width (muP), so that one learning rate serves all sizes",
  },
  lr: {
    type: "string",
    default: "0.004",
    summary: "peak learning rate; several, such as 0.002,0.004,0.008: the best of short runs of the smallest size",
  },
  "lr-steps": { type: "integer", default: 100, summary: "steps of these short runs" },
  "lr-sizes": { type: "integer", default: 3, summary: "sizes that are searched, to check that the best is the same" },
  "lr-compare": { type: "boolean", summary: "search with the standard parametrisation too" },
  "weight-decay": { type: "number", default: 0.1, summary: "of matrices" },
  beta2: { type: "number", default: 0.95, summary: "decay of the mean of squared gradients" },
  "max-epochs": { type: "number", default: 4, summary: "runs that would read the data more often are left out" },
  "held-out-batches": { type: "integer", default: 50, summary: "held-out batches measured at most" },
  tasks: { type: "string", summary: "measured on every size's longest run, as plinth eval names them: copy=1-8,..." },
  limit: { type: "integer", summary: "items per task at most, evenly spaced" },
  ...precisionOption,
  seed: { type: "integer", default: 0, summary: "seed of weights and order of data" },
  out: { type: "string", summary: "folder of the sweep" },
  resume: { type: "boolean", summary: "continue the sweep in --out" },
};

export const command: Command = {
  name: "scale",
  summary: "train models of several sizes, fit a scaling law, predict the next size and check it",
  example:
    "plinth scale --data data/stories --tokenizer characters --sizes 10k,30k,90k --budget-flops 1e11,3e11 --predict 270k --out runs/scale",
  positionals: [{ name: "RECIPE.yaml", required: false, summary: "file of flags; those on the command line win" }],
  options,
  async run(given, io) {
    const args = await withRecipe(given, given.positionals[0], options);
    const out = args.required("out");
    const dataset = await openDataset(args.required("data"));
    if (dataset.manifest.splits.heldOut.documents === 0) {
      throw new PlinthError(
        `${dataset.dir}: no documents are held out, and losses are compared on these`,
        "build the dataset with --held-out 0.1",
      );
    }
    const tokenizer = await openTokenizer(args.required("tokenizer"), dataset);
    const sweep = readSweep(args, io, tokenizer, dataset.hash);
    await openSweep(out, sweep, args.boolean("resume"));
    try {
      const documents = await tokenizeDataset(dataset, tokenizer, {
        signal: io.signal,
        onProgress: ({ documents, total }) => io.progress(`tokenizing: ${documents} of ${total} documents`),
      });
      io.note(`${documents.train.tokenCount} tokens to train on, ${documents.heldOut.tokenCount} held out`);
      const report = await runSweep({ sweep, out, tokenizer, documents, io });
      io.print(reportMarkdown(report));
      io.print(`${join(out, "report.md")}, report.json, scaling-law.svg`);
      io.result(resultOf(out, report));
    } catch (error) {
      if (!io.signal.aborted || (!(error instanceof Stopped) && (error as Error).name !== "AbortError")) throw error;
      io.note(`stopped; give the same command with --resume to continue (${out})`);
    }
  },
};

function resultOf(out: string, { runs, law, isoFlop, next, learningRates, abilities, lr }: SweepReport) {
  return { sweep: out, lr, runs, law, isoFlop, next, transfers: learningRates.transfers, abilities };
}

function readSweep(args: CommandArgs, io: CommandIo, tokenizer: Tokenizer, dataHash: string): Sweep {
  const precision = readPrecision(args);
  notePrecision(io, precision);
  const muP = args.string("mup") !== "false";
  const shape: ShapeOptions = {
    arch: args.string("arch") ?? "gpt2",
    layers: args.number("layers") ?? 4,
    headWidth: args.number("head-width") ?? 16,
    context: args.number("context") ?? 128,
    untied: muP,
  };
  const numbers = (flag: string): number[] => readNumbers(flag, args.string(flag)).sort((a, b) => a - b);
  const sizes = numbers("sizes");
  if (sizes.length === 0) args.required("sizes");
  const budgets = numbers("budget-flops");
  const tokens = numbers("tokens");
  if (budgets.length + tokens.length === 0) args.required("budget-flops");
  const predicted = readNumbers("predict", args.string("predict"))[0];
  const nextFlops = args.number("predict-flops") ?? nextInSeries(budgets);
  if (predicted !== undefined && nextFlops === undefined) args.required("predict-flops");
  return {
    ...shape,
    batching: args.string("batching") === "contiguous" ? "contiguous" : "packed",
    batchSize: args.number("batch-size") ?? 16,
    weightDecay: args.number("weight-decay") ?? 0.1,
    beta2: args.number("beta2") ?? 0.95,
    precision,
    seed: args.number("seed") ?? 0,
    heldOutBatches: args.number("held-out-batches") ?? 50,
    muP,
    shapes: shapesOf(sizes, shape, tokenizer),
    budgets,
    tokens,
    lrs: readNumbers("lr", args.string("lr") ?? "0.004"),
    lrSteps: args.number("lr-steps") ?? 100,
    lrSizes: args.number("lr-sizes") ?? 3,
    lrCompare: args.boolean("lr-compare"),
    maxEpochs: args.number("max-epochs") ?? 4,
    ...(predicted === undefined
      ? {}
      : { next: { shape: shapeNear(predicted, shape, tokenizer), flops: nextFlops as number } }),
    ...(args.string("tasks") === undefined ? {} : { tasks: args.string("tasks"), taskLimit: args.number("limit") }),
    dataHash,
    tokenizerHash: tokenizer.hash,
  };
}

function nextInSeries(budgets: readonly number[]): number | undefined {
  const [before, last] = [budgets.at(-2), budgets.at(-1)];
  return before === undefined || last === undefined ? last : last ** 2 / before;
}
