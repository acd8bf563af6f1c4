import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import type { JsonValue } from "../../src/data/index.ts";
import {
  add,
  cast,
  createBackend,
  crossEntropy,
  dropout,
  gather,
  HostRandom,
  matmul,
  NdArray,
  notEqual,
  sum,
  type Tensor,
} from "../../src/engine/index.ts";
import { readSafetensors, writeSafetensors } from "../../src/models/index.ts";
import type { LossFunction, ModelFiles, Parameters, TrainData, TrainOptions } from "../../src/train/index.ts";

/** A bigram model on made-up text: the smallest thing that has matrices, a bias, dropout and a falling loss. */
export const vocabulary = 7;
const width = 5;

export function toyParameters(seed = 1): Parameters {
  const random = new HostRandom(seed);
  const normal = (shape: number[]): NdArray =>
    NdArray.float32(
      shape,
      Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => 0.5 * random.normal()),
    );
  return {
    "embed.weight": normal([vocabulary, width]),
    "head.weight": normal([width, vocabulary]),
    "head.bias": NdArray.zeros("float32", [vocabulary]),
  };
}

export function toyLoss({ rate = 0 }: { readonly rate?: number } = {}): LossFunction {
  return (trainable, _frozen, batch, key) => {
    const { tokens, targets } = batch as Record<"tokens" | "targets", Tensor>;
    let hidden = gather(trainable["embed.weight"] as Tensor, tokens);
    if (key !== undefined && rate > 0) hidden = dropout(hidden, rate, key, { stream: 0 });
    const logits = add(matmul(hidden, trainable["head.weight"] as Tensor), trainable["head.bias"] as Tensor);
    const losses = crossEntropy(logits, targets, { ignoreIndex: -100 });
    return { lossSum: sum(losses), tokenCount: sum(cast(notEqual(targets, -100), "float32")) };
  };
}

/** Endless pairs of a token and the next one (mostly the token plus one), some of them masked. */
export class ToyData implements TrainData {
  readonly #size: number;
  readonly #seed: number;
  #index = 0;

  constructor(size: number, seed = 3) {
    this.#size = size;
    this.#seed = seed;
  }

  async next() {
    const tokens = new Int32Array(this.#size);
    const targets = new Int32Array(this.#size);
    for (let i = 0; i < this.#size; i++) {
      const random = new HostRandom(this.#seed + 1000 * (this.#index * this.#size + i));
      tokens[i] = random.int(vocabulary);
      targets[i] =
        random.uniform() < 0.2 ? -100 : ((tokens[i] as number) + (random.uniform() < 0.9 ? 1 : 2)) % vocabulary;
    }
    this.#index++;
    const tokenCount = targets.filter((id) => id !== -100).length;
    return {
      arrays: { tokens: NdArray.int32([this.#size], tokens), targets: NdArray.int32([this.#size], targets) },
      tokenCount,
      byteCount: tokenCount,
    };
  }

  state(): JsonValue {
    return { index: this.#index };
  }

  restore(state: JsonValue): void {
    this.#index = (state as { index: number }).index;
  }
}

export const toyFiles: ModelFiles = {
  save: (parameters, folder) => writeSafetensors(join(folder, "model.safetensors"), Object.entries(parameters)),
  async load(folder) {
    const file = await readSafetensors(join(folder, "model.safetensors"));
    return Object.fromEntries([...file.entries.keys()].map((name) => [name, file.array(name)]));
  },
};

/** Options of a quick run on the reference backend. */
export function toyOptions(out: string, options: Partial<TrainOptions> = {}): TrainOptions {
  return {
    trainable: toyParameters(),
    loss: toyLoss(),
    data: new ToyData(8),
    files: toyFiles,
    steps: 12,
    schedule: { name: "cosine", lr: 0.05, warmupSteps: 2 },
    backend: createBackend("reference"),
    out,
    ...options,
  };
}

/** A folder that is gone after the test. */
export async function temporaryFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "plinth-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

export function bytesOf(parameters: Parameters): Record<string, string> {
  return Object.fromEntries(
    Object.entries(parameters).map(([name, { data }]) => [
      name,
      Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("hex"),
    ]),
  );
}
