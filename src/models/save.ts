import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { PlinthError, writeFileAtomic, writeJsonAtomic } from "../base/index.ts";
import { formatShape, type NdArray, sameShape } from "../engine/index.ts";
import type { SourceFile } from "./formats/checkpoint-source.ts";
import { type StoredTensor, storedType, writeSafetensors } from "./formats/safetensors.ts";
import { indexFile, singleFile } from "./formats/weight-files.ts";
import { type Model, modelDType } from "./model.ts";

export interface SaveOptions {
  /** Largest weight file; default 5 GB, or as the checkpoint that the model was loaded from. A tensor is never split. */
  readonly maxShardBytes?: number;
}

interface WeightFile {
  readonly file: string;
  readonly tensors: readonly (readonly [name: string, tensor: NdArray | StoredTensor])[];
  readonly metadata: Readonly<Record<string, string>>;
  readonly keepOrder: boolean;
}

/**
 * Writes a Hugging Face model folder that other tools open: config.json, weights, and where the model has them
 * tokenizer.json and generation_config.json. Each file appears whole or not at all, the weights before the config. A
 * model loaded and not changed is written with the same bytes. Throws PlinthError when the disk is full or read-only.
 */
export async function saveModel(model: Model, dir: string, options: SaveOptions = {}): Promise<void> {
  if (model.quantized !== undefined) {
    throw new PlinthError(
      "a quantised model has no file format here",
      "save the model it was made from, and quantise after loading",
    );
  }
  checkParameters(model);
  const { source } = model;
  const found = options.maxShardBytes === undefined ? source?.files : undefined;
  const files = found === undefined ? shard(model, options.maxShardBytes ?? 5e9) : filesAsFound(model, found);
  for (const { file, tensors, metadata, keepOrder } of files) {
    await writeSafetensors(join(dir, file), tensors, { metadata, keepOrder });
  }
  const isSharded = files.length > 1 || files[0]?.file !== singleFile;
  if (isSharded) {
    const unchanged = found !== undefined && files.every(({ keepOrder }) => keepOrder) ? source?.indexText : undefined;
    await writeFileAtomic(join(dir, indexFile), unchanged ?? formatIndex(files));
  }
  await writeFileAtomic(join(dir, "config.json"), formatConfigFile(model));
  if (source?.generationConfigText !== undefined) {
    await writeFileAtomic(join(dir, "generation_config.json"), source.generationConfigText);
  } else if (model.generationConfig !== undefined) {
    await writeJsonAtomic(join(dir, "generation_config.json"), model.generationConfig);
  }
  await model.tokenizer?.save(dir);
  await removeOtherWeights(dir, new Set([...files.map(({ file }) => file), ...(isSharded ? [indexFile] : [])]));
}

function checkParameters({ family, config, params }: Model): void {
  const specs = family.parameters(config);
  for (const name of params.keys()) {
    if (!Object.hasOwn(specs, name))
      throw new PlinthError(`saveModel: "${name}" is no parameter of ${family.modelType}`);
  }
  for (const [name, { shape }] of Object.entries(specs)) {
    const array = params.get(name);
    if (array === undefined) throw new PlinthError(`saveModel: parameter "${name}" is missing`);
    if (!sameShape(array.shape, shape)) {
      throw new PlinthError(`saveModel: "${name}": expected ${formatShape(shape)}, got ${formatShape(array.shape)}`);
    }
  }
}

/** The files of the checkpoint that the model came from, with the model's present weights. */
function filesAsFound({ params }: Model, files: readonly SourceFile[]): WeightFile[] {
  return files.map(({ file, metadata, tensors: found }) => {
    const tensors = found.map(({ name, holds }): [string, NdArray | StoredTensor] => [
      name,
      "inert" in holds ? holds.inert : (params.get(holds.parameter) as NdArray),
    ]);
    // The library orders by element type: a model that changed its type is laid out anew.
    const keepOrder = found.every(({ dtype }, i) => storedType((tensors[i] as [string, NdArray])[1]).dtype === dtype);
    return { file, tensors, metadata, keepOrder };
  });
}

function shard({ params }: Model, maxShardBytes: number): WeightFile[] {
  const groups: [string, NdArray][][] = [[]];
  let bytes = 0;
  for (const [name, array] of params) {
    if (bytes > 0 && bytes + array.byteLength > maxShardBytes) {
      groups.push([]);
      bytes = 0;
    }
    groups.at(-1)?.push([name, array]);
    bytes += array.byteLength;
  }
  const pad = (n: number): string => `${n}`.padStart(5, "0");
  return groups.map((tensors, i) => ({
    file: groups.length === 1 ? singleFile : `model-${pad(i + 1)}-of-${pad(groups.length)}.safetensors`,
    tensors,
    metadata: { format: "pt" },
    keepOrder: false,
  }));
}

function formatIndex(files: readonly WeightFile[]): string {
  let parameters = 0;
  let bytes = 0;
  const weightMap: [string, string][] = [];
  for (const { file, tensors } of files) {
    for (const [name, tensor] of tensors) {
      weightMap.push([name, file]);
      parameters += tensor.shape.reduce((size, n) => size * n, 1);
      bytes += storedType(tensor).byteLength;
    }
  }
  weightMap.sort(([a], [b]) => (a < b ? -1 : 1));
  const index = {
    metadata: { total_parameters: parameters, total_size: bytes },
    weight_map: Object.fromEntries(weightMap),
  };
  return `${JSON.stringify(index, undefined, 2)}\n`;
}

function formatConfigFile(model: Model): string {
  const { family, config, source } = model;
  const json = family.formatConfig(config);
  const key = "dtype" in json ? "dtype" : "torch_dtype";
  const dtype = modelDType(model) ?? json[key];
  if (source?.config === config && (json[key] ?? dtype) === dtype) return source.configText;
  const text = JSON.stringify({ ...json, [key]: dtype }, undefined, 2);
  const isWhole = /^( {2}"([^"]+)": -?\d+)(,?)$/gm;
  const floats = text.replaceAll(isWhole, (line, start: string, name: string, comma: string) =>
    family.floatKeys?.includes(name) === true ? `${start}.0${comma}` : line,
  );
  return `${floats}\n`;
}

/** Weight files left from an earlier model in the same folder would be read instead of these. */
async function removeOtherWeights(dir: string, written: ReadonlySet<string>): Promise<void> {
  for (const name of await readdir(dir)) {
    if (/^model(-\d+-of-\d+)?\.safetensors(\.index\.json)?$/.test(name) && !written.has(name))
      await rm(join(dir, name));
  }
}
