import { PlinthError, writeFileAtomic } from "../base/index.ts";
import { decodeFloat32, encodeHost, formatShape, type NdArray, type Shape, sizeOf } from "../engine/index.ts";
import type { LlamaConfig } from "./llama.ts";
import type { Model } from "./model.ts";

/** Element types written here, with their numbers in the format. Q4_0: blocks of 32 codes of 4 bits and a float16 scale. */
export const ggufTypes = { F32: 0, F16: 1, Q4_0: 2 } as const;
export type GgufType = keyof typeof ggufTypes;

/** A value of the file's key-value part. A plain number is an unsigned 32-bit integer. */
export type GgufValue = string | number | boolean | { readonly float32: number };

export interface GgufTensor {
  readonly name: string;
  /** Outermost axis first, as everywhere here; the file has them the other way round. */
  readonly shape: Shape;
  readonly type: GgufType;
  /** The bytes, when their turn comes: a file need not fit into memory. */
  readonly data: () => Uint8Array;
}

const alignment = 32;

/**
 * Writes a GGUF file, version 3 (ggml's docs/gguf.md): little-endian header, keys and values, descriptions of the
 * tensors, then their data, each at a multiple of 32 bytes. Throws PlinthError at a tensor of another size than it says.
 */
export async function writeGguf(
  path: string,
  metadata: Readonly<Record<string, GgufValue>>,
  tensors: readonly GgufTensor[],
): Promise<void> {
  const parts: Buffer[] = [Buffer.from("GGUF"), uint32(3), uint64(tensors.length)];
  parts.push(uint64(Object.keys(metadata).length));
  for (const [key, value] of Object.entries(metadata)) parts.push(text(key), ...valueBytes(value));
  let offset = 0;
  for (const { name, shape, type } of tensors) {
    const axes = [...shape].reverse().map(uint64);
    parts.push(text(name), uint32(shape.length), ...axes, uint32(ggufTypes[type]), uint64(offset));
    offset = aligned(offset + ggufBytes(type, shape));
  }
  const header = Buffer.concat(parts);
  await writeFileAtomic(path, async (file) => {
    await file.write(Buffer.concat([header, Buffer.alloc(aligned(header.length) - header.length)]));
    for (const { name, shape, type, data } of tensors) {
      const bytes = data();
      const expected = ggufBytes(type, shape);
      if (bytes.length !== expected) {
        throw new PlinthError(
          `${name}: expected ${expected} bytes of ${type}${formatShape(shape)}, got ${bytes.length}`,
          "convert the data to the type that is given",
        );
      }
      await file.write(bytes);
      await file.write(Buffer.alloc(aligned(expected) - expected));
    }
  });
}

/** Bytes of a tensor. Throws PlinthError where rows are not whole blocks. */
export function ggufBytes(type: GgufType, shape: Shape): number {
  if (type !== "Q4_0") return sizeOf(shape) * (type === "F32" ? 4 : 2);
  if ((shape.at(-1) ?? 0) % 32 !== 0) {
    throw new PlinthError(`Q4_0: rows of ${shape.at(-1)} are not whole blocks of 32`, "keep this tensor as F16");
  }
  return (sizeOf(shape) / 32) * 18;
}

/** Blocks of 32 as ggml quantises them: the element of largest magnitude is -8, codes are rounded half up. */
export function quantizeQ4_0(values: Float32Array): Uint8Array {
  const out = new Uint8Array((values.length / 32) * 18);
  for (let block = 0, at = 0; block < values.length; block += 32, at += 18) {
    let extreme = 0;
    for (let i = block; i < block + 32; i++) {
      if (Math.abs(values[i] as number) > Math.abs(extreme)) extreme = values[i] as number;
    }
    const scale = extreme / -8;
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    const bits = encodeHost("float16", [scale])[0] as number;
    out[at] = bits & 255;
    out[at + 1] = bits >> 8;
    const code = (i: number): number => Math.min(15, Math.trunc(Math.fround((values[i] as number) * inverse) + 8.5));
    for (let i = 0; i < 16; i++) out[at + 2 + i] = code(block + i) | (code(block + 16 + i) << 4);
  }
  return out;
}

/** The keys and values that llama.cpp asks of a Llama without a vocabulary. */
export function ggufLlamaMetadata(config: LlamaConfig): Record<string, GgufValue> {
  return {
    "general.architecture": "llama",
    "general.alignment": alignment,
    "llama.vocab_size": config.vocabSize,
    "llama.context_length": config.contextLength,
    "llama.embedding_length": config.hiddenSize,
    "llama.block_count": config.numLayers,
    "llama.feed_forward_length": config.intermediateSize,
    "llama.attention.head_count": config.numHeads,
    "llama.attention.head_count_kv": config.numKvHeads,
    "llama.attention.layer_norm_rms_epsilon": { float32: config.rmsNormEps },
    "llama.rope.dimension_count": config.headDim,
    "llama.rope.freq_base": { float32: config.ropeTheta },
    "tokenizer.ggml.model": "no_vocab",
  };
}

/** llama.cpp's name of a parameter of `llama`. */
export function ggufName(name: string): string {
  const short: Readonly<Record<string, string>> = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    lm_head: "output",
    input_layernorm: "attn_norm",
    post_attention_layernorm: "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
  };
  const [, layer, rest = name] = /^model\.layers\.(\d+)\.(.*)$/.exec(name) ?? [];
  const [, module = "", leaf = ""] = /^(.*)\.(weight|bias)$/.exec(rest) ?? [];
  const found = short[module];
  if (found === undefined) throw new PlinthError(`"${name}" has no name in GGUF`, "write models of the family llama");
  return layer === undefined ? `${found}.${leaf}` : `blk.${layer}.${found}.${leaf}`;
}

/**
 * Writes a Llama as a GGUF file for llama.cpp, without a tokenizer: matrices in Q4_0 (or F16), the rest in float32. Rows
 * of the query and key projections are put in llama.cpp's order, where the two halves of a rotated pair lie side by side.
 * Throws PlinthError for other families and scaled rotary positions.
 */
export async function saveGguf(model: Model, path: string, { type }: { type: "Q4_0" | "F16" }): Promise<void> {
  const config = model.config as LlamaConfig;
  if (
    model.family.modelType !== "llama" ||
    config.ropeScaling.rope_type !== "default" ||
    model.quantized !== undefined
  ) {
    throw new PlinthError(
      "GGUF files are written of unquantised models of the family llama with plain rotary positions",
      "save the model with saveModel",
    );
  }
  const tensors = [...model.params].map(([name, array]): GgufTensor => {
    const own = array.shape.length < 2 ? "F32" : (array.shape.at(-1) as number) % 32 === 0 ? type : "F16";
    return {
      name: ggufName(name),
      shape: array.shape,
      type: own,
      data: () => encode(own, ordered(name, array, config)),
    };
  });
  await writeGguf(path, ggufLlamaMetadata(config), tensors);
}

function encode(type: GgufType, values: Float32Array): Uint8Array {
  if (type === "Q4_0") return quantizeQ4_0(values);
  const data = type === "F32" ? values : encodeHost("float16", values);
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

function ordered(name: string, array: NdArray, config: LlamaConfig): Float32Array {
  const values = decodeFloat32(array.dtype, array.data);
  if (!/\.[qk]_proj\./.test(name)) return values;
  const out = new Float32Array(values.length);
  const width = values.length / (array.shape[0] as number);
  const half = config.headDim / 2;
  for (let row = 0; row < (array.shape[0] as number); row++) {
    const inHead = row % config.headDim;
    const to = row - inHead + 2 * (inHead % half) + Math.floor(inHead / half);
    out.set(values.subarray(row * width, (row + 1) * width), to * width);
  }
  return out;
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / alignment) * alignment;
}

function uint32(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32LE(value);
  return out;
}

function uint64(value: number): Buffer {
  const out = Buffer.alloc(8);
  out.writeBigUInt64LE(BigInt(value));
  return out;
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([uint64(bytes.length), bytes]);
}

/** Type number and bytes. */
function valueBytes(value: GgufValue): Buffer[] {
  if (typeof value === "string") return [uint32(8), text(value)];
  if (typeof value === "boolean") return [uint32(7), Buffer.from([value ? 1 : 0])];
  if (typeof value === "number") return [uint32(4), uint32(value)];
  const out = Buffer.alloc(4);
  out.writeFloatLE(value.float32);
  return [uint32(6), out];
}
