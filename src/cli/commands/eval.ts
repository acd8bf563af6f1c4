import { evaluate, loadTasks, type TaskResult, taskDefinitions } from "../../evaluate/index.ts";
import type { Command } from "../command.ts";
import { openModel } from "../open-model.ts";
import { precisionOption, readPrecision } from "../precision-flag.ts";

const names = taskDefinitions().map(({ name }) => name);

export const command: Command = {
  name: "eval",
  summary: "measure a model on tasks, with standard errors",
  example: "plinth eval runs/small --tasks perplexity=data/books,my-questions.jsonl --shots 2 --limit 200",
  positionals: [{ name: "MODEL", required: true, summary: "folder of a model, a training run or a checkpoint" }],
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
    seed: { type: "integer", summary: "chooses the examples", default: 0 },
    ...precisionOption,
  },
  async run(args, io) {
    const tasks = await loadTasks(args.required("tasks"), args.string("data"));
    const model = await openModel(args.positionals[0] as string, args.string("adapter"));
    const results = await evaluate(model, tasks, {
      shots: args.number("shots"),
      limit: args.number("limit"),
      batchSize: args.number("batch-size"),
      overlap: args.number("overlap"),
      seed: args.number("seed"),
      precision: readPrecision(args),
      signal: io.signal,
      onProgress: ({ task, done, total }) => io.progress(`${task}: ${done} of ${total}`),
    });
    for (const note of new Set(results.flatMap(({ name, notes }) => notes.map((text) => `${name}: ${text}`))))
      io.note(note);
    io.print(formatTable(results));
    io.result({
      tasks: results.map(({ name, metric, value, standardError, count }) => ({
        name,
        metric,
        value,
        standardError: standardError ?? null,
        count,
      })),
    });
  },
};

function formatTable(results: readonly TaskResult[]): string {
  const rows = [
    ["task", "metric", "value", "standard error", "items"],
    ...results.map(({ name, metric, value, standardError, count }) => [
      name,
      metric,
      value.toFixed(4),
      standardError === undefined ? "(one unit)" : standardError.toFixed(4),
      `${count}`,
    ]),
  ];
  const widths = (rows[0] as string[]).map((_, column) =>
    Math.max(...rows.map((row) => (row[column] as string).length)),
  );
  const isNumber = (column: number) => column >= 2;
  const pad = (cell: string, column: number) =>
    isNumber(column) ? cell.padStart(widths[column] as number) : cell.padEnd(widths[column] as number);
  return rows.map((row) => row.map(pad).join("  ").trimEnd()).join("\n");
}
