/**
 * BERT pretrained here and fine-tuned on SST-2 against the same network from scratch, three seeds each:
 *
 *     npx tsc -p tsconfig.test.json && node dist-test/bench/bert-sst2.js [--steps N] [--seeds N] [--lr RATE,RATE] [--task-text] [--keep FOLDER] [--json]
 *
 * Pretraining by recipes/bert.yaml (`--steps` for fewer or more; `--task-text`: on SST-2's training sentences too, without their labels), fine-tuning
 * by `plinth adapt --method full`, the same for both. Prints accuracy on SST-2's dev split for every learning rate, means over seeds with their
 * standard errors, and the paired difference. About two minutes of pretraining for 1000 steps on 2 cores and 25 s for each fine-tuning.
 */
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { packageRoot } from "../src/base/index.ts";
import { type BertConfig, bert, initModel, loadModel, saveModel } from "../src/models/index.ts";
import { assets, plinth } from "./command-line.ts";

const { values } = parseArgs({
  options: {
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

/** Stories begin on a line that no empty line is before; articles at their headings. */
async function documents(): Promise<string[]> {
  const read = (path: string) => readFile(join(assets, "text", path), "utf8");
  const stories = (await read("tinystories/tinystories-lower.txt")).split(/(?<!\n)\n(?!\n)/);
  const articles = await Promise.all(["valid", "test"].map((name) => read(`wikitext-2/${name}.txt`)));
  const long = [...stories, ...articles.flatMap((text) => text.split(/\n(?= = [^=])/))].filter(
    (text) => text.length > 200,
  );
  if (!values["task-text"]) return long;
  const sentences = (await readFile(join(task, "train.tsv"), "utf8"))
    .split("\n")
    .map((line) => line.split("\t")[0] ?? "");
  // A sentence is too short for a pair of texts: eight make a document.
  const reviews = Array.from({ length: Math.ceil(sentences.length / 8) }, (_, i) =>
    sentences.slice(8 * i, 8 * i + 8).join(" "),
  );
  return [...long, ...reviews];
}

/** Accuracy on the dev split after fine-tuning a model. */
function accuracy(model: string, name: string, seed: number, lr: number): number {
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
  const { tasks } = JSON.parse(plinth("eval", out, "--tasks", `sst2=${task}`, "--batch-size", "32", "--json"));
  return tasks[0].value;
}

function meanOf(numbers: readonly number[]): { mean: number; standardError: number } {
  const mean = numbers.reduce((a, b) => a + b, 0) / numbers.length;
  const variance = numbers.reduce((a, b) => a + (b - mean) ** 2, 0) / Math.max(1, numbers.length - 1);
  return { mean, standardError: Math.sqrt(variance / numbers.length) };
}

try {
  await mkdir(folder, { recursive: true });
  const texts = await documents();
  await writeFile(at("texts.jsonl"), texts.map((text) => JSON.stringify({ text })).join("\n"));
  plinth("data", "build", "--from", at("texts.jsonl"), "--held-out", "0.02", "--out", at("data"));
  const vocabulary = ["--type", "wordpiece", "--lowercase", "--vocab-size", "6000"];
  plinth("tokenizer", "train", "--data", at("data"), ...vocabulary, "--out", at("tokenizer"));
  const recipe = join(packageRoot(), "recipes", "bert.yaml");
  const steps = values.steps === undefined ? [] : ["--steps", values.steps];
  const source = ["--data", at("data"), "--tokenizer", at("tokenizer")];
  const pretrained = JSON.parse(plinth("pretrain", recipe, ...source, ...steps, "--out", at("bert"), "--json"));
  const { config, tokenizer } = await loadModel(at("bert"));

  const seeds = Array.from({ length: Number(values.seeds) }, (_, i) => i + 1);
  const results = [];
  for (const lr of (values.lr as string).split(",").map(Number)) {
    const runs: { seed: number; pretrained: number; scratch: number }[] = [];
    for (const seed of seeds) {
      const scratch = at(`scratch-model-${seed}`);
      await saveModel(
        initModel(bert, { ...(config as BertConfig), head: { kind: "lm", labels: [] } }, { seed }),
        scratch,
      );
      await tokenizer?.save(scratch);
      runs.push({
        seed,
        pretrained: accuracy(at("bert"), "pretrained", seed, lr),
        scratch: accuracy(scratch, "scratch", seed, lr),
      });
      console.error(JSON.stringify(runs.at(-1)));
    }
    results.push({
      lr,
      runs,
      pretrained: meanOf(runs.map((run) => run.pretrained)),
      scratch: meanOf(runs.map((run) => run.scratch)),
      difference: meanOf(runs.map((run) => run.pretrained - run.scratch)),
    });
  }
  const result = {
    name: "SST-2 dev accuracy: BERT pretrained here, and the same network from scratch",
    documents: texts.length,
    pretraining: { steps: pretrained.steps, heldOut: pretrained.heldOut, seconds: pretrained.seconds },
    results,
  };
  if (values.json) console.log(JSON.stringify(result, undefined, 2));
  else {
    const line = (name: string, { mean, standardError }: { mean: number; standardError: number }): string =>
      `  ${name.padEnd(12)} ${(100 * mean).toFixed(2)} % ± ${(100 * standardError).toFixed(2)}`;
    console.log(`${result.name}, ${seeds.length} seeds`);
    for (const { lr, ...each } of results) {
      console.log(`learning rate ${lr}`);
      console.log((["pretrained", "scratch", "difference"] as const).map((key) => line(key, each[key])).join("\n"));
    }
  }
} finally {
  if (values.keep === undefined) await rm(folder, { recursive: true, force: true });
}
