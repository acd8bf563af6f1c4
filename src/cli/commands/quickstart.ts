import { relative } from "node:path";
import type { Command } from "../command.ts";
import { estimate } from "../quickstart/report.ts";
import { quickstart } from "../quickstart/run.ts";

export const command: Command = {
  name: "quickstart",
  summary: "all of it on your own text: dataset, tokenizer, pretraining, two adaptations, evaluation, report",
  example: "plinth quickstart docs",
  positionals: [
    {
      name: "FOLDER",
      required: false,
      summary: "folder of text (default: TypeScript and Markdown of the installed packages)",
    },
  ],
  options: {
    out: { type: "string", summary: "folder for everything that is made (default: a new runs/quickstart-N)" },
    seed: { type: "integer", summary: "seed of the split, the weights and the order of the data", default: 0 },
    steps: {
      type: "integer",
      summary: "pretraining steps (default: two minutes' worth on this machine, 2000 at most)",
    },
    resume: { type: "boolean", summary: "continue the newest unfinished run, or the one in --out" },
  },
  async run(args, io) {
    const steps = args.number("steps");
    const result = await quickstart(
      {
        folder: args.positionals[0],
        out: args.string("out"),
        seed: args.number("seed") ?? 0,
        resume: args.boolean("resume"),
        ...(steps === undefined ? {} : { plan: { pretrainSteps: steps } }),
      },
      io,
    );
    io.result(result);
    const total = Object.values(result.seconds).reduce((sum, each) => sum + each, 0);
    io.print("");
    for (const { title, prompt, text } of result.samples.slice(0, 1)) io.print(`${title}\n\n${prompt}⟶${text}\n`);
    io.print("bits per byte on held-out documents, lower is better");
    io.print(`${"task".padEnd(10)} ${"base".padEnd(16)} ${"adapted".padEnd(16)} scratch`);
    for (const { name, base, adapted, scratch } of result.tasks) {
      io.print(`${name.padEnd(10)} ${estimate(base).padEnd(16)} ${estimate(adapted).padEnd(16)} ${estimate(scratch)}`);
    }
    io.print(`\n${Math.round(total)} s in all; report: ${here(result.report)}`);
    io.print(`go on: npx plinth generate ${here(result.model.path)} --prompt "export function" --max-tokens 100`);
  },
};

function here(path: string): string {
  return relative(process.cwd(), path);
}
