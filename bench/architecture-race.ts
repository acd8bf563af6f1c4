import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PlinthError } from "../src/base/index.ts";
import { trainProbe } from "../src/cli/bench/probes.ts";
import { hostInfo, operandsOfPrecision, type Precision } from "../src/engine/index.ts";
import { generateAll } from "../src/generate/index.ts";
import {
  castParams,
  countParameters,
  initModel,
  type Model,
  type ModelConfig,
  type ModelFamily,
  modelFamilies,
  modelFamily,
  saveModel,
} from "../src/models/index.ts";
import { type BenchRow, median, missingModule, Peer, secondsOf, settle } from "./peer.ts";
import type { SuiteOptions } from "./suite.ts";

/** The one shape of all architectures; two key-value heads where an architecture can have fewer than queries. */
const dials = { vocabSize: 8192, contextLength: 512, hiddenSize: 256, numLayers: 6, numHeads: 4 } as const;
const [batchSize, context] = [4, 256];
const seed = 0;
const [promptLength, newTokens] = [32, 64];
const generationBatches = [1, 8];
/** What issue 4 asks for. */
const target = 1.3;

/** Something that both sides do; what each says is how many seconds it took. */
interface Contest {
  readonly name: string;
  /** Of a turn. */
  readonly tokens: number;
  readonly own: () => Promise<number>;
  readonly peer: (peer: Peer) => Promise<number>;
  /** What the peer does once before; absent where it needs nothing. */
  readonly warm?: (peer: Peer) => Promise<unknown>;
  /** Whether both sides have come to the same result; absent where that cannot be told. */
  readonly agree?: () => string | undefined;
}

/**
 * Every registered architecture, or those named by `only`, against transformers: an AdamW step and greedy generation. Our
 * own folder of random weights is what the peer opens, so both have the same shape and the same weights.
 */
export async function raceArchitectures(
  precision: Precision,
  { quick, only }: SuiteOptions,
): Promise<readonly BenchRow[]> {
  const rows: BenchRow[] = [];
  const absent = missingModule("transformers") ?? missingModule("torch");
  const peer = absent === undefined ? new Peer("torch_models.py") : undefined;
  try {
    for (const family of chooseFamilies(quick, only)) {
      const raced = await raceOne(family, precision, { rounds: quick ? 1 : 3, peer, absent });
      // At once: all of it takes long.
      for (const { name, value, ratio } of raced) {
        const times = ratio === undefined ? "" : `, ${ratio.toFixed(2)} x`;
        process.stderr.write(`  ${name} ${value.toFixed(0)} tokens/s${times}\n`);
      }
      rows.push(...raced);
    }
  } finally {
    peer?.close();
  }
  return rows;
}

/** `quick`: the first encoder and the first decoder. */
function chooseFamilies(quick: boolean, only: readonly string[] | undefined): readonly ModelFamily[] {
  if (only !== undefined) return only.map((name) => modelFamily(name, "--only"));
  const all = modelFamilies();
  if (!quick) return all;
  const kinds = all.map(({ kind = "decoder" }) => kind);
  return ["encoder", "decoder"].map((kind) => all[kinds.indexOf(kind as "decoder")] as ModelFamily);
}

interface RaceOptions {
  readonly rounds: number;
  readonly peer: Peer | undefined;
  /** Why there is no peer. */
  readonly absent: string | undefined;
}

async function raceOne(
  family: ModelFamily,
  precision: Precision,
  { rounds, peer, absent }: RaceOptions,
): Promise<readonly BenchRow[]> {
  const model = initModel(family, newConfig(family), { seed });
  const version = await open(peer, model, precision);
  const contests = contestsOf(model, precision);
  const times = contests.map(() => ({ own: [] as number[], peer: [] as number[] }));
  const rival = version.error === undefined ? peer : undefined;
  for (const contest of contests) {
    await contest.own(); // compiles
    if (rival !== undefined) await contest.warm?.(rival);
  }
  for (let round = 0; round < rounds; round++) {
    for (const [i, contest] of contests.entries()) {
      await settle();
      times[i]?.own.push(await contest.own());
      if (rival === undefined) continue;
      await settle();
      times[i]?.peer.push(await contest.peer(rival));
    }
  }
  const title = `${family.modelType} ${(countParameters(model) / 1e6).toFixed(1)}M, ${operandsOfPrecision[precision]}`;
  return contests.map(({ name, tokens, agree }, i): BenchRow => {
    const { own, peer: theirs } = times[i] as { own: number[]; peer: number[] };
    const value = tokens / median(own);
    const row = { name: `${title}: ${name}`, value, unit: "tokens/s" };
    if (theirs.length === 0) return { ...row, note: `no peer: ${absent ?? version.error}` };
    const peerValue = tokens / median(theirs);
    const note = agree?.();
    return {
      ...row,
      peer: family.modelType === "palm" ? "reference in PyTorch" : `transformers ${version.version}`,
      peerValue,
      ratio: value / peerValue,
      target,
      ...(note === undefined ? {} : { note }),
    };
  });
}

/** The shape with grouped keys and values, or where the architecture refuses that without. */
function newConfig(family: ModelFamily): ModelConfig {
  try {
    return family.createConfig({ ...dials, numKvHeads: 2 });
  } catch (error) {
    if (!(error instanceof PlinthError)) throw error;
    return family.createConfig(dials);
  }
}

/** Has the peer read the model: its version, or why it cannot. */
async function open(peer: Peer | undefined, model: Model, precision: Precision) {
  const folder = await mkdtemp(join(tmpdir(), "plinth-bench-"));
  try {
    await saveModel(model, folder);
    const dtype = operandsOfPrecision[precision];
    const request = { folder, dtype, batch: batchSize, context, threads: hostInfo().threads };
    const answer = (await peer?.open(request)) ?? {};
    const parameters = (answer as { parameters?: number }).parameters;
    if (parameters !== undefined && parameters !== countParameters(model)) {
      throw new Error(`${model.family.modelType}: ${countParameters(model)} parameters, the peer has ${parameters}`);
    }
    return answer;
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** A training step, and for what can write generation; the weights are the same at the start. */
function contestsOf(model: Model, precision: Precision): readonly Contest[] {
  // Training changes weights in place: it has its own.
  const trained = initModel(model.family, model.config, { seed });
  const probe = trainProbe(trained, { batchSize, context, precision });
  const step: Contest = {
    name: "training step",
    tokens: batchSize * context,
    own: () => secondsOf(probe.run),
    peer: async (peer) => (await peer.ask<{ seconds: number }>({ steps: 1 })).seconds,
  };
  if (model.family.kind === "encoder") return [step];
  const writer = { ...model, params: castParams(model.params, operandsOfPrecision[precision]) };
  return [step, ...generationBatches.map((rows) => generation(writer, rows, precision))];
}

/** Different prompts of equal length, so that the peer needs no padding. */
function generation(model: Model, rows: number, precision: Precision): Contest {
  const prompts = Array.from({ length: rows }, (_, row) =>
    Array.from({ length: promptLength }, (_, i) => (997 * row + 131 * i * i + 7 * i) % model.config.vocabSize),
  );
  const options = { temperature: 0, maxTokens: newTokens, eosIds: [], precision };
  let [mine, theirs]: (readonly (readonly number[])[])[] = [[], []];
  return {
    name: `generating, batch ${rows}`,
    tokens: rows * newTokens,
    own: () =>
      secondsOf(async () => {
        mine = (await generateAll(model, prompts, options)).map(({ tokens }) => tokens);
      }),
    peer: async (peer) => {
      const request = { generate: prompts, tokens: newTokens };
      const answer = await peer.ask<{ seconds: number; tokens: number[][] }>(request);
      theirs = answer.tokens;
      return answer.seconds;
    },
    warm: (peer) => peer.ask({ generate: prompts, tokens: 4 }),
    agree: () => {
      // Narrow operands are rounded at different places: what is likeliest may then differ.
      if (precision !== "f32") return undefined;
      const same = mine?.flatMap((tokens, row) => tokens.filter((id, i) => id === theirs?.[row]?.[i])) ?? [];
      return `${same.length} of ${rows * newTokens} tokens the same`;
    },
  };
}
