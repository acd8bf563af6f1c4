import { PlinthError } from "../base/index.ts";
import type { Tokenizer } from "../data/index.ts";
import { encodePrompts } from "../generate/index.ts";
import { joinAnswer, type PreparedTask, prepareTask } from "./few-shot.ts";
import { accuracies } from "./metrics/choice.ts";
import type { NgramModel } from "./ngram.ts";
import { type Measurement, type TaskResult, toResult } from "./result.ts";
import { type ChoiceTask, checkTask, type Task, type TextTask } from "./task.ts";

/**
 * Measures an n-gram model on tasks that ask for likelihoods (texts and choices), with the metrics that `evaluate` gives a
 * neural model: the baseline to compare with. Throws PlinthError for tasks that generate.
 */
export async function evaluateNgram(
  model: NgramModel,
  tokenizer: Tokenizer,
  tasks: readonly Task[],
  { limit, signal }: { readonly limit?: number | undefined; readonly signal?: AbortSignal | undefined } = {},
): Promise<TaskResult[]> {
  const results: TaskResult[] = [];
  for (const task of tasks) {
    signal?.throwIfAborted();
    checkTask(task);
    const prepared = prepareTask(task, { limit });
    const measurements = await measure(prepared, model, tokenizer);
    results.push(...measurements.map((m) => toResult(task.name, m, { notes: prepared.notes, asked: prepared.items })));
  }
  return results;
}

function measure(prepared: PreparedTask, model: NgramModel, tokenizer: Tokenizer): Promise<Measurement[]> {
  const { task } = prepared;
  if (task.kind === "choice") return measureChoices(prepared as PreparedTask<ChoiceTask>, model, tokenizer);
  if (task.kind === "text") return measureTexts(prepared as PreparedTask<TextTask>, model, tokenizer);
  throw new PlinthError(
    `task ${task.name} lets a model write, and an n-gram model only scores`,
    "name tasks of texts or choices, such as blimp or perplexity",
  );
}

async function measureChoices(
  { items, task, preamble }: PreparedTask<ChoiceTask>,
  model: NgramModel,
  tokenizer: Tokenizer,
): Promise<Measurement[]> {
  const asked = items.flatMap((item) =>
    item.choices.map((choice) => ({
      before: (preamble + item.prompt).trimEnd(),
      whole: preamble + item.prompt + joinAnswer(item.prompt, choice, task),
    })),
  );
  const befores = await encodePrompts(
    tokenizer,
    asked.map(({ before }) => before),
  );
  const wholes = await encodePrompts(
    tokenizer,
    asked.map(({ whole }) => whole),
  );
  const likelihoods = wholes.map((whole, i) => {
    const before = befores[i] as Int32Array;
    let split = 0;
    while (split < before.length && before[split] === whole[split]) split++;
    return model
      .score(whole)
      .subarray(split)
      .reduce((sum, logprob) => sum + logprob, 0);
  });
  let next = 0;
  return accuracies(
    items,
    items.map(({ choices }) => choices.map(() => likelihoods[next++] as number)),
  );
}

async function measureTexts(
  { items }: PreparedTask<TextTask>,
  model: NgramModel,
  tokenizer: Tokenizer,
): Promise<Measurement[]> {
  const encoded = await tokenizer.encodeBatch(
    items.map(({ text }) => text),
    { literal: true },
  );
  const nats = encoded.map((ids) => -model.score(ids).reduce((sum, logprob) => sum + logprob, 0));
  const shares = (scale: number, weight: (i: number) => number) =>
    items.map(({ id, cluster }, i) => ({ id, cluster, amount: (nats[i] as number) * scale, weight: weight(i) }));
  return [
    {
      metric: "bits-per-byte",
      better: "lower",
      items: shares(1 / Math.LN2, (i) => Buffer.byteLength((items[i] as { text: string }).text)),
    },
    { metric: "perplexity", better: "lower", exponential: true, items: shares(1, (i) => encoded[i]?.length ?? 0) },
  ];
}
