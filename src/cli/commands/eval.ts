import { PlinthError } from "../../base/index.ts";
import { type EvaluateOptions, evaluate, evaluateSolutions, loadTasks, taskDefinitions } from "../../evaluate/index.ts";
import type { Command, CommandArgs, CommandIo } from "../command.ts";
import { byGroupOption, resultRows, resultTable } from "../eval-table.ts";
import { openModel } from "../open-model.ts";
import { modelPrecisionOption, readModelPrecision } from "../precision-flag.ts";

const names = taskDefinitions().map(({ name }) => name);

export const command: Command = {
  name: "eval",
  summary: "measure a model on tasks, with standard errors",
  example: "plinth eval runs/small --tasks perplexity=data/books,my-questions.jsonl --shots 2 --limit 200",
  positionals: [{ name: "MODEL", required: false, summary: "folder of a model, a training run or a checkpoint" }],
  options: {
    tasks: {
      type: "string",
      required: true,
      summary: `separated by commas: ${names.join(", ")} (each NAME=PATH of its data), or .jsonl files of your own`,
    },
    data: { type: "string", summary: "path of the data, for tasks named without =PATH" },
    adapter: { type: "string", summary: "folder of an adapter for the model" },
    shots: { type: "integer", summary: "examples before every question", default: 0 },
    limit: { type: "integer", summary: "items per task at most, evenly spaced" },
    "batch-size": { type: "integer", summary: "sequences at a time; changes the speed only", default: 8 },
    overlap: { type: "integer", summary: "tokens that windows over long texts share (default half the context)" },
    seed: { type: "integer", summary: "chooses the examples, and the samples of code tasks", default: 0 },
    samples: { type: "integer", summary: "code tasks: programs per problem (default 1, the likeliest)" },
    k: { type: "string", summary: "code tasks: the k of pass@k, separated by commas (default 1)" },
    temperature: { type: "number", summary: "code tasks: of the samples (default 0 for one, 0.2 below ten, else 0.8)" },
    canonical: { type: "boolean", summary: "code tasks: run their own solutions, no model; a good harness gives 1" },
    "allow-unsafe": { type: "boolean", summary: "code tasks: run programs even where they cannot be isolated" },
    python: { type: "string", summary: "code tasks: the Python that runs programs", default: "python3" },
    ...byGroupOption,
    ...modelPrecisionOption,
  },
  async run(args, io) {
    const tasks = await loadTasks(args.required("tasks"), args.string("data"));
    const options = await readOptions(args, io);
    const results = args.boolean("canonical")
      ? await evaluateSolutions(tasks, "canonical", options)
      : await evaluate(await openNamedModel(args), tasks, options);
    for (const note of new Set(results.flatMap(({ name, notes }) => notes.map((text) => `${name}: ${text}`))))
      io.note(note);
    const rows = resultRows(results, args.boolean("by-group"));
    io.print(resultTable(rows));
    io.result({ tasks: rows });
  },
};

function openNamedModel(args: CommandArgs) {
  const [folder] = args.positionals;
  if (folder === undefined) throw new PlinthError("plinth eval: MODEL is missing", `for example: ${command.example}`);
  return openModel(folder, args.string("adapter"));
}

async function readOptions(args: CommandArgs, io: CommandIo): Promise<EvaluateOptions> {
  return {
    shots: args.number("shots"),
    limit: args.number("limit"),
    batchSize: args.number("batch-size"),
    overlap: args.number("overlap"),
    seed: args.number("seed"),
    precision: await readModelPrecision(args, io),
    code: {
      samples: args.number("samples"),
      ks: readKs(args.string("k")),
      temperature: args.number("temperature"),
      allowUnsafe: args.boolean("allow-unsafe"),
      python: args.string("python"),
    },
    signal: io.signal,
    onProgress: ({ task, done, total }) => io.progress(`${task}: ${done} of ${total}`),
  };
}

function readKs(text: string | undefined): number[] | undefined {
  const ks = text?.split(",").map(Number);
  const wrong = ks?.find((k) => !Number.isInteger(k) || k < 1);
  if (wrong === undefined) return ks;
  throw new PlinthError(`--k expects whole numbers from 1, separated by commas, got "${text}"`, "for example --k 1,10");
}
