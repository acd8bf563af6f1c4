/**
 * The curves of the pretraining recipes, one panel a run, into docs/recipes.svg:
 *
 *     npx tsc -p tsconfig.test.json && node dist-test/bench/recipe-curves.js "BERT, masked LM=runs/bert" "GPT-2=runs/gpt2" ...
 *
 * Training loss is the mean of a hundredth of a run around each point; held-out loss is what `plinth pretrain` measured with its checkpoints.
 * Prints the cost of each run.
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { packageRoot } from "../src/base/index.ts";
import { type Panel, plotPanels } from "../src/cli/plot.ts";

/** A line of a run's metrics.jsonl. */
interface Metrics {
  readonly step: number;
  readonly loss?: number;
  readonly tokens?: number;
  readonly heldOut?: { readonly loss: number };
}

async function panelOf(argument: string): Promise<Panel> {
  const at = argument.lastIndexOf("=");
  const [title, folder] = [argument.slice(0, at), argument.slice(at + 1)];
  const metrics = (await readFile(join(folder, "metrics.jsonl"), "utf8"))
    .split("\n")
    .filter((line) => line !== "")
    .map((line): Metrics => JSON.parse(line));
  const training = metrics.filter((each) => each.loss !== undefined);
  const chunk = Math.max(1, Math.ceil(training.length / 100));
  const points = Array.from({ length: Math.ceil(training.length / chunk) }, (_, i) => {
    const part = training.slice(i * chunk, (i + 1) * chunk);
    const mean = part.reduce((sum, { loss }) => sum + (loss as number), 0) / part.length;
    return [(part[part.length >> 1] as Metrics).step, mean] as const;
  });
  const heldOut = metrics.flatMap(({ step, heldOut }) =>
    heldOut === undefined ? [] : [[step, heldOut.loss] as const],
  );
  const { seconds, tokens } = JSON.parse(await readFile(join(folder, "run.json"), "utf8"));
  console.log(
    `${title}: ${training.length} steps, ${tokens} targets, ${Math.round(seconds)} s, held-out ${heldOut.at(-1)?.[1]}`,
  );
  return {
    title,
    x: { label: "step" },
    y: { label: "nats per target" },
    lines: [
      { name: "training", points, colour: "blue" },
      { name: "held out", points: heldOut, colour: "orange", dots: true },
    ],
  };
}

const panels = await Promise.all(process.argv.slice(2).map(panelOf));
if (panels.length === 0) throw new Error('expected runs: "NAME=FOLDER" ...');
await writeFile(
  join(packageRoot(), "docs", "recipes.svg"),
  plotPanels("Training curves of the recipes", panels, { columns: 3, size: [320, 230] }),
);
