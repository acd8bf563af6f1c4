import { availableParallelism } from "node:os";
import { PlinthError, sha256 } from "../../base/index.ts";
import { encodePrompts, generateAll, type PromptRequest, promptRoom } from "../../generate/index.ts";
import { type Outcome, type ProgramResult, runProgram } from "../../sandbox/index.ts";
import { requireTokenizer } from "../encode.ts";
import type { PreparedTask } from "../few-shot.ts";
import type { Measurement } from "../result.ts";
import type { CodeItem, CodeTask } from "../task.ts";
import { type CodeOptions, cutNote, type MeasureContext } from "./context.ts";

/** What begins something else at the start of a line (Chen et al. 2021, section 2.1). */
const pythonStops = ["\nclass", "\ndef", "\n#", "\nif", "\nprint"];

/** The same for JavaScript and TypeScript, as in MultiPL-E (Cassano et al. 2022). */
const javascriptStops = ["\nfunction ", "\nclass ", "\n/*", "\n//", "\nconsole.log"];

/**
 * Functional correctness: programs that the model writes are run against tests in a sandbox. `pass@k` is the chance that
 * one of k samples passes, estimated without bias from n >= k of them and averaged over problems.
 */
export async function measureCode(prepared: PreparedTask<CodeTask>, context: MeasureContext): Promise<Measurement[]> {
  const { samples, ks } = sampleCounts(context.code);
  const { completions, notes } = await sampleCompletions(prepared, samples, context);
  return await judge(prepared, completions, ks, notes, context);
}

/**
 * The same for completions that are given: the tasks' own solutions (a harness and data that work give 1), or nothing at
 * all (0). Throws PlinthError naming an item without a solution.
 */
export async function measureSolutions(
  prepared: PreparedTask<CodeTask>,
  source: "canonical" | "empty",
  context: Pick<MeasureContext, "code" | "signal" | "onProgress">,
): Promise<Measurement[]> {
  const completions = prepared.items.map(({ id, solution }) => {
    if (source === "empty") return [""];
    if (solution !== undefined) return [solution];
    throw new PlinthError(
      `task ${prepared.task.name}: item ${id} has no solution of its own`,
      "measure a model instead",
    );
  });
  return await judge(prepared, completions, [1], [], context);
}

/** 1 - C(n-c, k) / C(n, k): the unbiased estimate of pass@k from n samples of which c passed (Chen et al. 2021, eq. 1). */
export function passAtK(n: number, c: number, k: number): number {
  let allFail = 1;
  for (let i = n - c + 1; i <= n; i++) allFail *= Math.max(0, 1 - k / i);
  return 1 - allFail;
}

function sampleCounts({ samples = 1, ks }: CodeOptions): { samples: number; ks: readonly number[] } {
  const wanted = ks ?? (samples >= 10 ? [1, 10] : [1]);
  if (!Number.isInteger(samples) || samples < 1) {
    throw new PlinthError(`evaluate: samples is ${samples}`, "give a whole number from 1");
  }
  const tooMany = wanted.find((k) => k > samples);
  if (tooMany === undefined) return { samples, ks: wanted };
  throw new PlinthError(
    `pass@${tooMany} cannot be estimated from ${samples} sample${samples === 1 ? "" : "s"} per problem`,
    `take at least ${tooMany}: --samples ${tooMany}`,
  );
}

async function sampleCompletions(
  { task, items, preamble }: PreparedTask<CodeTask>,
  samples: number,
  context: MeasureContext,
): Promise<{ completions: string[][]; notes: readonly string[] }> {
  const { model, backend, precision, signal, code, batchSize } = context;
  const maxTokens = task.maxTokens ?? Math.min(512, Math.floor(model.config.contextLength / 2));
  const room = promptRoom(model, maxTokens);
  const encoded = await encodePrompts(
    requireTokenizer(model),
    items.map(({ prompt }) => preamble + prompt),
  );
  const prompts = items.flatMap(({ id }, i) =>
    Array.from({ length: samples }, (_, sample): PromptRequest => {
      const seed = Number.parseInt(sha256(`${code.seed ?? 0}/${task.name}/${id}/${sample}`).slice(0, 8), 16);
      return { prompt: (encoded[i] as Int32Array).slice(-room), seed };
    }),
  );
  // the temperatures of Chen et al. 2021 for one and for many tries; a single sample is the model's best guess
  const temperature = code.temperature ?? (samples === 1 ? 0 : samples < 10 ? 0.2 : 0.8);
  const stop = task.stop ?? (task.language === undefined || task.language === "python" ? pythonStops : javascriptStops);
  const texts: string[] = [];
  for (let at = 0; at < prompts.length; at += batchSize) {
    signal?.throwIfAborted();
    const options = { temperature, topP: 0.95, repetitionPenalty: 1, maxTokens, stop, backend, precision, signal };
    const results = await generateAll(model, prompts.slice(at, at + batchSize), options);
    signal?.throwIfAborted();
    texts.push(...results.map(({ text }) => text));
    context.onProgress?.(texts.length, prompts.length);
  }
  return {
    completions: items.map((_, i) => texts.slice(i * samples, (i + 1) * samples)),
    notes: cutNote(encoded.filter((ids) => ids.length > room).length, items.length),
  };
}

/** Runs every completion's program, as many at a time as there are cores; the same text for an item only once. */
async function judge(
  { task, items }: PreparedTask<CodeTask>,
  completions: readonly (readonly string[])[],
  ks: readonly number[],
  notes: readonly string[],
  { code, signal, onProgress }: Pick<MeasureContext, "code" | "signal" | "onProgress">,
): Promise<Measurement[]> {
  const runs = items.flatMap((item, i) => [...new Set(completions[i])].map((completion) => ({ item, completion })));
  const results = new Map<CodeItem, Map<string, ProgramResult>>(items.map((item) => [item, new Map()]));
  // the limit is on processor time, so that a busy machine fails nobody; a program that waits has a while longer
  const cpuSeconds = task.timeoutSeconds ?? 3;
  const limits = { cpuSeconds, wallSeconds: 3 * cpuSeconds + 1 };
  let done = 0;
  await inParallel(runs, code.parallel ?? availableParallelism(), async ({ item, completion }) => {
    const program = {
      language: task.language ?? "python",
      source: (item.program ?? item.prompt) + completion,
      tests: item.tests,
    };
    const result = await runProgram(program, { limits, allowUnsafe: code.allowUnsafe, python: code.python, signal });
    results.get(item)?.set(completion, result);
    onProgress?.(++done, runs.length);
  });
  const passes = items.map((item, i) => {
    const of = results.get(item);
    return (completions[i] ?? []).filter((completion) => of?.get(completion)?.outcome === "passed").length;
  });
  const all = [...results.values()].flatMap((of) => [...of.values()]);
  return ks.map((k) => ({
    metric: `pass@${k}`,
    better: "higher",
    items: items.map(({ id, cluster }, i) => ({
      id,
      cluster,
      amount: passAtK(completions[i]?.length ?? 0, passes[i] as number, k),
      weight: 1,
    })),
    notes: [...notes, ...outcomeNotes(all)],
  }));
}

/** How programs ended, and whether they were kept apart. */
function outcomeNotes(results: readonly ProgramResult[]): string[] {
  const counts = new Map<Outcome, number>();
  for (const { outcome } of results) counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
  const ended = [...counts].map(([outcome, count]) => `${outcome} ${count}`).join(", ");
  const mechanism = results[0]?.isolation.mechanism;
  return [
    `${results.length} different programs ran: ${ended} (isolation: ${mechanism ?? "not needed"})`,
    ...(mechanism === "none" ? ["the programs could reach this machine's network and files"] : []),
  ];
}

/** Does `work` for every item, `count` at a time. The first error ends it. */
async function inParallel<T>(items: readonly T[], count: number, work: (item: T) => Promise<void>): Promise<void> {
  const queue = items.values();
  const worker = async () => {
    for (const item of queue) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(count, items.length) }, worker));
}
