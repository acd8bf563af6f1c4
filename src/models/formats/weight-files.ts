import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { explainReadError, PlinthError } from "../../base/index.ts";
import { readSafetensors, type TensorFile } from "./safetensors.ts";
import { readTorchCheckpoint } from "./torch-checkpoint.ts";

export const singleFile = "model.safetensors";
export const indexFile = "model.safetensors.index.json";

export interface WeightFiles {
  readonly format: "safetensors" | "torch";
  /** By file name within the folder. */
  readonly files: ReadonlyMap<string, TensorFile>;
  /** Of safetensors. */
  readonly indexText?: string;
}

/** In order of preference. */
const layouts = [
  { format: "safetensors", single: singleFile, index: indexFile, shards: [".safetensors"], read: readSafetensors },
  {
    format: "torch",
    single: "pytorch_model.bin",
    index: "pytorch_model.bin.index.json",
    shards: [".bin", ".pt", ".pth"],
    read: readTorchCheckpoint,
  },
] as const;

/**
 * Opens the weights of a model folder: `model.safetensors`, or the shards that `model.safetensors.index.json` lists, or
 * else the same of PyTorch, `pytorch_model.bin` or `pytorch_model.bin.index.json`.
 * Throws PlinthError when there are none, a shard is missing, or shards and index disagree.
 */
export async function openWeights(dir: string): Promise<WeightFiles> {
  for (const { format, single, index, shards, read } of layouts) {
    const path = join(dir, single);
    if (existsSync(path)) return { format, files: new Map([[single, await read(path)]]) };
    if (!existsSync(join(dir, index))) continue;
    const { files, indexText } = await openShards(dir, { index, shards, read });
    return { format, files, ...(format === "safetensors" ? { indexText } : {}) };
  }
  throw new PlinthError(
    `${dir}: no weights (${layouts.map(({ single, index }) => `${single} or ${index}`).join(", ")})`,
    "download the weights into this folder",
  );
}

async function openShards(
  dir: string,
  layout: {
    readonly index: string;
    readonly shards: readonly string[];
    readonly read: (path: string) => Promise<TensorFile>;
  },
): Promise<{ files: Map<string, TensorFile>; indexText: string }> {
  const index = join(dir, layout.index);
  const indexText = await readFile(index, "utf8").catch((error: unknown) => {
    throw explainReadError(error, index);
  });
  const weightMap = parseIndex(indexText, index, layout.shards);
  const files = new Map<string, TensorFile>();
  for (const file of new Set(weightMap.values())) {
    if (!existsSync(join(dir, file))) {
      throw new PlinthError(`${dir}: shard ${file} is missing; ${layout.index} lists it`, "download the missing file");
    }
    files.set(file, await layout.read(join(dir, file)));
  }
  for (const [name, file] of weightMap) {
    if (files.get(file)?.entries.has(name) !== true) {
      throw new PlinthError(
        `${index}: tensor "${name}" should be in ${file} and is not`,
        "the index and the shards come from different models; download both again",
      );
    }
  }
  for (const [file, { entries }] of files) {
    for (const name of entries.keys()) {
      if (weightMap.get(name) !== file) {
        throw new PlinthError(
          `${join(dir, file)}: tensor "${name}" is not listed for this file in ${layout.index}`,
          "the index and the shards come from different models; download both again",
        );
      }
    }
  }
  return { files, indexText };
}

function parseIndex(text: string, path: string, endings: readonly string[]): Map<string, string> {
  let weightMap: unknown;
  try {
    weightMap = (JSON.parse(text) as { weight_map?: unknown } | null)?.weight_map;
  } catch (error) {
    throw new PlinthError(`${path}: not valid JSON (${(error as Error).message})`, "download it again");
  }
  const isMap = typeof weightMap === "object" && weightMap !== null && !Array.isArray(weightMap);
  const entries = isMap ? Object.entries(weightMap as Record<string, unknown>) : [];
  if (entries.length === 0) throw new PlinthError(`${path}: no weight_map`, "download it again");
  return new Map(
    entries.map(([name, file]) => {
      if (
        typeof file !== "string" ||
        file !== file.replaceAll(/[\\/]/g, "") ||
        !endings.some((ending) => file.endsWith(ending))
      ) {
        throw new PlinthError(
          `${path}: "${name}" points to ${JSON.stringify(file)}, expected a ${endings[0]} file of this folder`,
          "download it again",
        );
      }
      return [name, file];
    }),
  );
}
