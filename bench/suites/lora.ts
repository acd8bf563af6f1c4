import { findAdapter } from "../../src/adapt/index.ts";
import { stepProbe } from "../../src/cli/bench/probes.ts";
import { hostInfo } from "../../src/engine/index.ts";
import { countParameters, type Model } from "../../src/models/index.ts";
import { causalLm } from "../../src/train/index.ts";
import { type BenchRow, median, missingModule, Peer, secondsOf, settle } from "../peer.ts";
import { type LlamaShape, randomLlama, randomQuantizedLlama, small1b, tiny1b } from "../random-llama.ts";
import type { Suite, SuiteOptions } from "../suite.ts";

const rank = 8;
const [batchSize, context] = [1, 512];

export const suite: Suite = {
  summary: "LoRA step of a Llama-shaped 1B model in bfloat16 against PEFT on PyTorch; memory of QLoRA",
  run: benchLora,
  onlyByName: true, // 9 GB of memory and some minutes
};

/**
 * One AdamW step of LoRA, rank 8 on all linear layers, 1 x 512 tokens, frozen weights bfloat16; the sides take turns.
 * Then QLoRA (NF4 with double quantisation, activations computed again as in its paper): its speed, and its planned
 * memory against that of the LoRA step that raced.
 */
async function benchLora({ quick }: SuiteOptions): Promise<readonly BenchRow[]> {
  const shape: LlamaShape = quick ? tiny1b : small1b;
  const absent = missingModule("peft");
  const peer = absent === undefined ? new Peer("peft_lora.py") : undefined;
  try {
    const answer = await peer?.open({
      ...shape,
      rank,
      context,
      batch: batchSize,
      threads: hostInfo().threads,
    });
    const model = randomLlama(shape);
    const name = `Llama ${(countParameters(model) / 1e9).toFixed(2)}B, ${batchSize}x${context} tokens`;
    const own = loraStep(model, "lora", false);
    const [ours, theirs]: [number[], number[]] = [[], []];
    const rounds = quick ? 2 : 5;
    for (let round = 0; round <= rounds; round++) {
      await settle();
      const mine = await own.run();
      await settle();
      const other =
        answer?.version === undefined ? 0 : ((await peer?.ask<{ seconds: number }>({ steps: 1 }))?.seconds ?? 0);
      if (round === 0) continue;
      ours.push(mine);
      theirs.push(other);
    }
    const small = loraStep(randomQuantizedLlama(shape, { format: "nf4", groupSize: 64, head: false }), "qlora", true);
    const seconds: number[] = [];
    for (let round = 0; round < 3; round++) seconds.push(await small.run());
    const tokens = batchSize * context;
    return [
      {
        name: `LoRA step, ${name}, bfloat16`,
        value: tokens / median(ours),
        unit: "tokens/s",
        ...(answer?.version === undefined
          ? { note: `no peer: ${absent ?? answer?.error}` }
          : {
              peer: `PEFT ${answer.version}`,
              peerValue: tokens / median(theirs),
              ratio: median(theirs) / median(ours),
              target: 2,
            }),
      },
      {
        name: "QLoRA step (nf4, activations computed again)",
        value: tokens / median(seconds.slice(1)),
        unit: "tokens/s",
        peer: "LoRA step, ours",
        peerValue: tokens / median(ours),
        ratio: median(ours) / median(seconds.slice(1)),
      },
      {
        name: "  planned memory of the step",
        value: small.peakBytes / 2 ** 20,
        unit: "MiB",
        peer: "LoRA step, ours",
        peerValue: own.peakBytes / 2 ** 20,
        ratio: own.peakBytes / small.peakBytes,
        target: 3,
      },
    ];
  } finally {
    peer?.close();
  }
}

function loraStep(model: Model, method: "lora" | "qlora", remat: boolean) {
  const { trainable, frozen, assemble, decay } = findAdapter(method).adapt(model, { rank });
  const loss = causalLm(model.family, model.config, { assemble, remat });
  const { vocabSize } = model.config;
  const probe = stepProbe({ trainable, frozen, loss, decay, vocabSize }, { batchSize, context, precision: "bf16" });
  return { run: () => secondsOf(probe.run), peakBytes: probe.peakBytes };
}
