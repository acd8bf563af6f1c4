import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hostInfo, measureLimits } from "../../src/engine/index.ts";
import { generateText } from "../../src/generate/index.ts";
import { countParameters } from "../../src/models/index.ts";
import { type BenchRow, median, missingModule, Peer, secondsOf, settle } from "../peer.ts";
import { bytesPerToken, randomGguf, randomQuantizedLlama, small1b, tiny1b } from "../random-llama.ts";
import type { Suite, SuiteOptions } from "../suite.ts";

const prompt = 512;
const tokens = 32;

export const suite: Suite = {
  summary: "decoding and reading a prompt with a Llama-shaped 1B model of 4-bit weights, against llama.cpp",
  run: benchDecode,
};

/**
 * Batch 1 through `generate`, greedy, sampling included, from a prompt of 16 tokens; and a prompt of 512. Both sides have
 * random weights of 4 bits: llama.cpp's Q4_0 in groups of 32 (4.5 bits a weight with scales), our int4 in its default
 * groups of 64 (4.25 bits).
 */
async function benchDecode({ quick }: SuiteOptions): Promise<readonly BenchRow[]> {
  const shape = quick ? tiny1b : small1b;
  const folder = await mkdtemp(join(tmpdir(), "plinth-decode-"));
  const absent = missingModule("llama_cpp");
  const peer = absent === undefined ? new Peer("llama_decode.py") : undefined;
  try {
    let version: string | undefined;
    let problem = absent;
    if (peer !== undefined) {
      const path = join(folder, "random.gguf");
      await randomGguf(shape, path);
      const answer = await peer.open({
        model: path,
        threads: hostInfo().threads,
        context: 1024,
      });
      ({ version, error: problem } = answer);
    }
    const model = randomQuantizedLlama(shape, { format: "int4", groupSize: 64, head: true });
    const ids = (length: number): Int32Array => Int32Array.from({ length }, (_, i) => (7 * i) % shape.vocabSize);
    const greedy = { temperature: 0, eosIds: [], addSpecialTokens: false };
    const own = {
      decode: async (): Promise<number> => {
        const { tokensPerSecond } = await generateText(model, ids(16), { ...greedy, maxTokens: tokens + 1 });
        return 1 / tokensPerSecond;
      },
      prefill: async (): Promise<number> =>
        (await secondsOf(() => generateText(model, ids(prompt), { ...greedy, maxTokens: 1 }))) / prompt,
    };
    const theirs = {
      decode: async () => (await peer?.ask<{ seconds: number }>({ decode: tokens, from: 16 }))?.seconds ?? 0,
      prefill: async () => (await peer?.ask<{ seconds: number }>({ prefill: prompt }))?.seconds ?? 0,
    };
    const times = { decode: [[], []] as [number[], number[]], prefill: [[], []] as [number[], number[]] };
    for (let round = 0; round < (quick ? 2 : 6); round++) {
      for (const kind of ["decode", "prefill"] as const) {
        const mine = await own[kind]();
        await settle();
        const other = version === undefined ? 0 : (await theirs[kind]()) / (kind === "decode" ? tokens : prompt);
        await settle();
        if (round === 0) continue; // compiles, and reads the file for the first time
        times[kind][0].push(mine);
        times[kind][1].push(other);
      }
    }
    const limit = measureLimits({ seconds: 1 }).gigabytesPerSecond;
    const bandwidth = bytesPerToken(model, 16 + tokens / 2) / median(times.decode[0]) / 1e9;
    const name = `Llama ${(countParameters(model) / 1e9).toFixed(2)}B, 4-bit`;
    const race = (kind: "decode" | "prefill", what: string): BenchRow => ({
      name: `${name}, ${what}`,
      value: 1 / median(times[kind][0]),
      unit: "tokens/s",
      ...(version === undefined
        ? { note: `no peer: ${problem}` }
        : {
            peer: `llama.cpp (llama-cpp-python ${version})`,
            peerValue: 1 / median(times[kind][1]),
            ratio: median(times[kind][1]) / median(times[kind][0]),
            target: 1,
          }),
    });
    return [
      race("decode", "batch 1"),
      {
        name: "  weights and cache read",
        value: bandwidth,
        unit: "GB/s",
        peer: "measured bandwidth",
        peerValue: limit,
        ratio: bandwidth / limit,
        target: 0.8,
      },
      race("prefill", `prompt of ${prompt}`),
    ];
  } finally {
    peer?.close();
    await rm(folder, { recursive: true });
  }
}
