import {
  allocateBytes,
  encodeHost,
  NdArray,
  packingOf,
  type QuantizedFormat,
  type QuantizedLayout,
} from "../src/engine/index.ts";
import { WeightWriter } from "../src/engine/quantize/layout.ts";
import {
  editFamily,
  type GgufTensor,
  ggufBytes,
  ggufLlamaMetadata,
  ggufName,
  type LlamaConfig,
  llama,
  type Model,
  type ModelFamily,
  quantizeTree,
  writeGguf,
} from "../src/models/index.ts";

/** The shape of Llama 3.2 1B with the vocabulary of Llama 2 and a head of its own. */
export const small1b = {
  vocabSize: 32000,
  hiddenSize: 2048,
  numLayers: 16,
  numHeads: 32,
  numKvHeads: 8,
  intermediateSize: 8192,
};
/** Two layers of it, to see that things work. */
export const tiny1b = { ...small1b, numLayers: 2, vocabSize: 4096 };
export type LlamaShape = typeof small1b;

export function llamaConfig(shape: LlamaShape): LlamaConfig {
  return llama.createConfig({ ...shape, contextLength: 2048, tieWordEmbeddings: false });
}

const scale = 0.004;
const scaleBits = encodeHost("bfloat16", [scale])[0] as number;
const halfScaleBits = encodeHost("float16", [scale])[0] as number;

/** Random bits, the same every time. */
function fillRandom(words: Int32Array, seed: number): void {
  let state = (seed * 2654435761) | 1;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
}

export interface RandomQuantization {
  readonly format: QuantizedFormat;
  readonly groupSize: number;
  readonly head: boolean;
}

/** A model of random packed weights, made without ever having full ones; embeddings (and head) bfloat16. */
export function randomQuantizedLlama(shape: LlamaShape, { format, groupSize, head }: RandomQuantization): Model {
  const config = llamaConfig(shape);
  const layouts = new Map<string, QuantizedLayout>();
  const params = new Map<string, NdArray>();
  for (const [name, spec] of Object.entries(llama.parameters(config))) {
    const seed = params.size + 1;
    if (spec.shape.length < 2) {
      params.set(name, new NdArray("float32", spec.shape, new Float32Array(spec.shape[0] as number).fill(1)));
    } else if (spec.module === "embedding" || (name === "lm_head.weight" && !head)) {
      params.set(name, randomBfloat16(spec.shape as [number, number], seed));
    } else {
      const [outSize, inSize] = spec.shape as [number, number];
      const layout = { format, groupSize, outSize, inSize };
      layouts.set(name, layout);
      params.set(name, randomWords(layout, seed));
    }
  }
  const family = editFamily(llama, (tree) => quantizeTree(tree, layouts)) as unknown as ModelFamily;
  return { family, config, params, quantized: layouts };
}

function randomWords(layout: QuantizedLayout, seed: number): NdArray {
  const { panels, panelWords, scaleWords, groups } = packingOf(layout);
  const writer = new WeightWriter(layout);
  fillRandom(writer.words, seed);
  if (layout.format === "nf4") {
    writer.scaleBlocks(0.03, new Float32Array(Math.ceil((layout.outSize * groups) / 256)).fill(0.01));
  } else {
    for (let panel = 0; panel < panels; panel++) {
      writer.words.fill(scaleBits | (scaleBits << 16), panel * panelWords, panel * panelWords + scaleWords);
    }
  }
  return new NdArray("int32", [writer.words.length], writer.words);
}

/** The same model with bfloat16 matrices. */
export function randomLlama(shape: LlamaShape): Model {
  const config = llamaConfig(shape);
  const specs = Object.entries(llama.parameters(config));
  const params = specs.map(([name, spec], i): [string, NdArray] => [
    name,
    spec.shape.length < 2
      ? NdArray.float32(spec.shape, new Float32Array(spec.shape[0] as number).fill(1))
      : randomBfloat16(spec.shape as [number, number], i + 1),
  ]);
  return { family: llama as unknown as ModelFamily, config, params: new Map(params) };
}

/** Values of about 0.02. */
export function randomBfloat16(shape: readonly [number, number], seed: number): NdArray {
  const words = new Int32Array(allocateBytes(shape[0] * shape[1] * 2));
  fillRandom(words, seed);
  // Signs and fractions are random, exponents those of 2^-6.
  for (let i = 0; i < words.length; i++) words[i] = ((words[i] as number) & 0x807f807f) | 0x3c803c80;
  return new NdArray("bfloat16", shape, new Uint16Array(words.buffer));
}

/** A GGUF file of the shape: Q4_0 matrices (embeddings too), float32 norms. */
export async function randomGguf(shape: LlamaShape, path: string): Promise<void> {
  const config = llamaConfig(shape);
  const tensors = Object.entries(llama.parameters(config)).map(([name, spec], i): GgufTensor => {
    const type = spec.shape.length < 2 ? "F32" : "Q4_0";
    const data = (): Uint8Array => {
      if (type === "F32") return new Uint8Array(new Float32Array(spec.shape[0] as number).fill(1).buffer);
      const words = new Int32Array(ggufBytes(type, spec.shape) / 4);
      fillRandom(words, i + 1);
      const halves = new Uint16Array(words.buffer);
      for (let block = 0; block < halves.length; block += 9) halves[block] = halfScaleBits;
      return new Uint8Array(words.buffer);
    };
    return { name: ggufName(name), shape: spec.shape, type, data };
  });
  await writeGguf(path, ggufLlamaMetadata(config), tensors);
}

/** What a token has to read: every weight but the embeddings of other tokens, and the keys and values so far. */
export function bytesPerToken(model: Model, position: number): number {
  const { numLayers, numKvHeads, headDim } = model.config;
  let bytes = 2 * numLayers * numKvHeads * headDim * position * 4;
  for (const [name, array] of model.params) if (!name.includes("embed_tokens")) bytes += array.byteLength;
  return bytes;
}
