import { extname } from "node:path";
import type { Dataset, Tokenizer } from "../../data/index.ts";
import { type CompletionTask, evaluate } from "../../evaluate/index.ts";
import { generateText } from "../../generate/index.ts";
import type { Model } from "../../models/index.ts";
import type { CommandIo } from "../command.ts";
import type { TaskResult } from "./report.ts";
import type { QuickstartTask } from "./tasks.ts";

/** The three models on the same held-out items; standard errors are over documents. */
export async function compare(
  io: CommandIo,
  task: QuickstartTask,
  items: CompletionTask["items"],
  models: Readonly<Record<"base" | "adapted" | "scratch", Model>>,
): Promise<TaskResult> {
  const measure = async (name: keyof typeof models) => {
    io.progress(`evaluate: ${name} on "${task.name}"`);
    const completion: CompletionTask = { name: task.name, kind: "completion", items, delimiter: "" };
    const results = await evaluate(models[name], [completion], { signal: io.signal, batchSize: 16 });
    const bits = results.find((result) => result.metric === "bits-per-byte");
    if (bits === undefined) throw new Error("evaluate: no bits-per-byte of a completion task.");
    return { value: bits.value, standardError: bits.standardError ?? Number.NaN };
  };
  const [base, adapted, scratch] = [await measure("base"), await measure("adapted"), await measure("scratch")];
  io.note(
    `task "${task.name}": base ${base.value.toFixed(3)}, adapted ${adapted.value.toFixed(3)}, scratch ${scratch.value.toFixed(3)} bits per byte`,
  );
  return {
    name: task.name,
    metric: "bits-per-byte",
    summary: task.summary,
    documents: new Set(items.map((item) => item.cluster)).size,
    base,
    adapted,
    scratch,
  };
}

/** Length from which a document is worth continuing, in characters. */
const sampleLength = 1000;

/** The base model goes on with the beginning of a held-out document of the most frequent kind of file. */
export async function sampleBase(model: Model, dataset: Dataset) {
  const options = { maxTokens: 120, temperature: 0.7, topP: 0.95, seed: 1 };
  const tokenizer = model.tokenizer as Tokenizer;
  const kinds = new Map<string, { count: number; text?: string }>();
  for await (const { text, source } of dataset.documents("heldOut")) {
    const kind = kinds.get(extname(source)) ?? { count: 0 };
    kinds.set(extname(source), kind);
    kind.count++;
    if (text.length >= sampleLength) kind.text ??= text;
  }
  const text = [...kinds.values()].sort((a, b) => b.count - a.count).find((kind) => kind.text !== undefined)?.text;
  if (text !== undefined) {
    const lines = text.slice(0, text.lastIndexOf("\n", 200) + 1) || text.slice(0, 120);
    const ids = await tokenizer.encode(lines, { literal: true });
    const prompt = await tokenizer.decode(ids.slice(0, Math.floor(model.config.contextLength / 2)));
    const generation = await generateText(model, prompt, options);
    return { title: "base: a held-out document, continued", prompt, text: generation.text };
  }
  const generation = await generateText(model, "The", options);
  return { title: "base: a continuation", prompt: "The", text: generation.text };
}

/** The right answer to one held-out item, and what the models say. */
export async function sampleTask(
  task: QuickstartTask,
  items: CompletionTask["items"],
  models: Readonly<Record<"base" | "adapted", Model>>,
) {
  const item = items[Math.floor(items.length / 2)] as CompletionTask["items"][number];
  const { prompt, completion } = item;
  const samples = [{ title: `${task.name}: the right answer`, prompt, text: completion }];
  for (const [name, model] of Object.entries(models)) {
    const { text } = await generateText(model, prompt, { maxTokens: 60, temperature: 0, stop: ["\n"] });
    samples.push({ title: `${task.name}: ${name}`, prompt, text });
  }
  return samples;
}
