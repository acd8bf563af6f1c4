/**
 * BERT pretrained here and fine-tuned on SST-2 against the same network from scratch, three seeds each:
 *
 *     npx tsc -p tsconfig.test.json && node dist-test/bench/bert-sst2.js [--model runs/bert] [--steps N] [--seeds N] [--lr RATE,RATE] [--task-text] [--keep FOLDER] [--json]
 *
 * Pretraining by recipes/bert.yaml (`--steps` for fewer or more; `--task-text`: on SST-2's training sentences too, without their labels; `--model`: not
 * again, a model pretrained before), fine-tuning by `plinth adapt --method full`, the same for both. Prints accuracy on SST-2's dev split for every
 * learning rate, and for the one that each did best with there accuracy on the test split: means over seeds with their standard errors, and the
 * paired difference. About 25 s for each fine-tuning on 2 cores.
 */
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { packageRoot } from "../src/base/index.ts";
import { type BertConfig, bert, initModel, loadModel, saveModel } from "../src/models/index.ts";
import { assets, plinth, run } from "./command-line.ts";

const { values } = parseArgs({
  options: {
    model: { type: "string" },
    steps: { type: "string" },
    seeds: { type: "string", default: "3" },
    "tune-steps": { type: "string", default: "432" },
    lr: { type: "string", default: "5e-4" },
    "task-text": { type: "boolean", default: false },
    keep: { type: "string" },
    json: { type: "boolean", default: false },
  },
});
const task = join(assets, "eval", "sst2");
const folder = values.keep ?? (await mkdtemp(join(tmpdir(), "plinth-bert-")));
const at = (...path: string[]): string => join(folder, ...path);

/** The text of recipes/bert.yaml, with SST-2's training sentences where asked for. */
async function documents(): Promise<string> {
  const text = (path: string) => join(assets, "text", path);
  const files = ["tinystories/tinystories-lower.txt", "wikitext-2/valid.txt", "wikitext-2/test.txt"].map(text);
  const long = run(process.execPath, [join(packageRoot(), "recipes", "stories-data.mjs"), ...files]);
  if (!values["task-text"]) return long;
  const sentences = (await readFile(join(task, "train.tsv"), "utf8"))
    .split("\n")
    .map((line) => line.split("\t")[0] ?? "");
  // A sentence is too short for a document: eight make one.
  const reviews = Array.from({ length: Math.ceil(sentences.length / 8) }, (_, i) =>
    sentences.slice(8 * i, 8 * i + 8).join(" "),
  );
  return long + reviews.map((review) => `${JSON.stringify({ text: review })}\n`).join("");
}

interface Accuracy {
  readonly dev: number;
  readonly test: number;
}

/** After fine-tuning a model. */
function accuracy(model: string, name: string, seed: number, lr: number): Accuracy {
  const out = at(`${name}-${seed}-${lr}`);
  const steps = values["tune-steps"] as string;
  const dials = [
    "--context",
    "48",
    "--batch-size",
    "32",
    "--lr",
    `${lr}`,
    "--steps",
    steps,
    "--seed",
    `${seed}`,
    "--held-out",
    "0",
  ];
  plinth("adapt", model, "--method", "full", "--task", `sst2=${task}`, ...dials, "--out", out);
  const on = (path: string): number =>
    JSON.parse(plinth("eval", out, "--tasks", `sst2=${path}`, "--batch-size", "32", "--json")).tasks[0].value;
  return { dev: on(task), test: on(join(task, "test.tsv")) };
}

function meanOf(numbers: readonly number[]): { mean: number; standardError: number } {
  const mean = numbers.reduce((a, b) => a + b, 0) / numbers.length;
  const variance = numbers.reduce((a, b) => a + (b - mean) ** 2, 0) / Math.max(1, numbers.length - 1);
  return { mean, standardError: Math.sqrt(variance / numbers.length) };
}

/** The folder of a pretrained BERT: the one given, or one made by the recipe. */
async function pretrain(): Promise<string> {
  if (values.model !== undefined) return values.model;
  await writeFile(at("texts.jsonl"), await documents());
  plinth("data", "build", "--from", at("texts.jsonl"), "--held-out", "0.02", "--out", at("data"));
  const vocabulary = ["--type", "wordpiece", "--lowercase", "--vocab-size", "6000"];
  plinth("tokenizer", "train", "--data", at("data"), ...vocabulary, "--out", at("tokenizer"));
  const recipe = join(packageRoot(), "recipes", "bert.yaml");
  const steps = values.steps === undefined ? [] : ["--steps", values.steps];
  plinth("pretrain", recipe, "--data", at("data"), "--tokenizer", at("tokenizer"), ...steps, "--out", at("bert"));
  return at("bert");
}

/** Fine-tunes both for every seed and learning rate. */
async function race(model: string): Promise<readonly Run[]> {
  const { config, tokenizer } = await loadModel(model);
  const runs: Run[] = [];
  for (let seed = 1; seed <= Number(values.seeds); seed++) {
    const scratch = at(`scratch-model-${seed}`);
    await saveModel(
      initModel(bert, { ...(config as BertConfig), head: { kind: "lm", labels: [] } }, { seed }),
      scratch,
    );
    await tokenizer?.save(scratch);
    for (const lr of learningRates) {
      const [pretrained, fromScratch] = [
        accuracy(model, "pretrained", seed, lr),
        accuracy(scratch, "scratch", seed, lr),
      ];
      runs.push({ seed, lr, pretrained, scratch: fromScratch });
      console.error(JSON.stringify(runs.at(-1)));
    }
  }
  return runs;
}

type Start = "pretrained" | "scratch";
type Run = { readonly seed: number; readonly lr: number } & Readonly<Record<Start, Accuracy>>;
const starts = ["pretrained", "scratch"] as const;
const learningRates = (values.lr as string).split(",").map(Number);

try {
  await mkdir(folder, { recursive: true });
  const runs = await race(await pretrain());
  const of = (start: Start, lr: number, split: keyof Accuracy): number[] =>
    runs.filter((each) => each.lr === lr).map((each) => each[start][split]);
  const dev = starts.flatMap((start) => learningRates.map((lr) => ({ start, lr, ...meanOf(of(start, lr, "dev")) })));
  const bestOf = (start: Start): number =>
    dev.filter((each) => each.start === start).reduce((best, each) => (each.mean > best.mean ? each : best)).lr;
  const test = starts.map((start) => ({ start, lr: bestOf(start), ...meanOf(of(start, bestOf(start), "test")) }));
  const [a, b] = starts.map((start) => of(start, bestOf(start), "test")) as [number[], number[]];
  const difference = meanOf(a.map((value, i) => value - (b[i] as number)));
  if (values.json) console.log(JSON.stringify({ runs, dev, test, difference }, undefined, 2));
  else {
    const percent = ({ mean, standardError }: { mean: number; standardError: number }): string =>
      `${(100 * mean).toFixed(2)} % ± ${(100 * standardError).toFixed(2)}`;
    console.log(`SST-2: BERT pretrained here, and the same network from scratch, ${values.seeds} seeds`);
    for (const each of dev) console.log(`  dev   ${each.start.padEnd(10)} lr ${each.lr}: ${percent(each)}`);
    for (const each of test) console.log(`  test  ${each.start.padEnd(10)} lr ${each.lr}: ${percent(each)}`);
    console.log(`  test  difference ${percent(difference)}`);
  }
} finally {
  if (values.keep === undefined) await rm(folder, { recursive: true, force: true });
}
