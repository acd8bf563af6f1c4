import { existsSync } from "node:fs";
import { join } from "node:path";
import { readJson, writeJsonAtomic } from "../../base/index.ts";
import { evaluate, groupItems, loadTasks, ratioEstimate } from "../../evaluate/index.ts";
import { loadModel } from "../../models/index.ts";
import { type RunResult, runFolder, type SweepContext } from "./run.ts";

/** What one model scores on one group of one task's items. */
export interface Ability {
  readonly task: string;
  readonly metric: string;
  /** The items' common name up to the last slash, such as `copy/4`. */
  readonly group: string;
  readonly value: number;
  readonly standardError: number | null;
  readonly count: number;
}

/** A size's abilities, by the run that it read most tokens in. */
export interface SizeAbilities {
  readonly run: string;
  readonly parameters: number;
  readonly tokens: number;
  readonly abilities: readonly Ability[];
}

/** Measures the sweep's tasks on every size's longest run, group by group; what is on disk is not measured again. */
export async function measureAbilities(context: SweepContext, runs: readonly RunResult[]): Promise<SizeAbilities[]> {
  const { sweep, io } = context;
  if (sweep.tasks === undefined) return [];
  const tasks = await loadTasks(sweep.tasks);
  const longest = new Map<number, RunResult>();
  for (const run of runs) {
    if (run.loss !== null && run.tokens > (longest.get(run.parameters)?.tokens ?? 0)) longest.set(run.parameters, run);
  }
  const results: SizeAbilities[] = [];
  for (const run of [...longest.values()].sort((a, b) => a.parameters - b.parameters)) {
    const folder = runFolder(context, run.name);
    const file = join(folder, "abilities.json");
    const asked = { tasks: sweep.tasks, limit: sweep.taskLimit ?? null };
    const saved = existsSync(file)
      ? ((await readJson(file)) as { asked: typeof asked; abilities: readonly Ability[] })
      : undefined;
    let abilities = saved?.abilities;
    if (abilities === undefined || JSON.stringify(saved?.asked) !== JSON.stringify(asked)) {
      const measured = await evaluate(await loadModel(folder), tasks, {
        limit: sweep.taskLimit,
        batchSize: 32,
        precision: sweep.precision,
        signal: io.signal,
        onProgress: ({ task, done, total }) => io.progress(`${run.name}, ${task}: ${done} of ${total}`),
      });
      abilities = measured.flatMap(({ name, metric, items }) =>
        groupItems(items, name).map(({ group, items }): Ability => {
          const { value, standardError } = ratioEstimate(items);
          return { task: name, metric, group, value, standardError: standardError ?? null, count: items.length };
        }),
      );
      await writeJsonAtomic(file, { asked, abilities });
    }
    results.push({ run: run.name, parameters: run.parameters, tokens: run.tokens, abilities });
  }
  return results;
}
