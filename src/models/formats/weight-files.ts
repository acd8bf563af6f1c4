import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { explainReadError, PlinthError } from "../../base/index.ts";
import { readSafetensors, type SafetensorsFile } from "./safetensors.ts";

export const singleFile = "model.safetensors";
export const indexFile = "model.safetensors.index.json";

export interface WeightFiles {
  /** By file name within the folder. */
  readonly files: ReadonlyMap<string, SafetensorsFile>;
  readonly indexText?: string;
}

/**
 * Opens the weights of a model folder: `model.safetensors`, or the shards that `model.safetensors.index.json` lists.
 * Throws PlinthError when there are none, a shard is missing, or shards and index disagree.
 */
export async function openWeights(dir: string): Promise<WeightFiles> {
  const single = join(dir, singleFile);
  if (existsSync(single)) return { files: new Map([[singleFile, await readSafetensors(single)]]) };
  const index = join(dir, indexFile);
  if (!existsSync(index)) {
    const pickled = existsSync(join(dir, "pytorch_model.bin"));
    const why = pickled ? "; pytorch_model.bin is not read, because loading it can run code" : "";
    throw new PlinthError(
      `${dir}: no weights (${singleFile} or ${indexFile})${why}`,
      pickled
        ? "convert it with save_pretrained(..., safe_serialization=True)"
        : "download the weights into this folder",
    );
  }
  const indexText = await readFile(index, "utf8").catch((error: unknown) => {
    throw explainReadError(error, index);
  });
  const weightMap = parseIndex(indexText, index);
  const files = new Map<string, SafetensorsFile>();
  for (const file of new Set(weightMap.values())) {
    if (!existsSync(join(dir, file))) {
      throw new PlinthError(`${dir}: shard ${file} is missing; ${indexFile} lists it`, "download the missing file");
    }
    files.set(file, await readSafetensors(join(dir, file)));
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
          `${join(dir, file)}: tensor "${name}" is not listed for this file in ${indexFile}`,
          "the index and the shards come from different models; download both again",
        );
      }
    }
  }
  return { files, indexText };
}

function parseIndex(text: string, path: string): Map<string, string> {
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
      if (typeof file !== "string" || file !== file.replaceAll(/[\\/]/g, "") || !file.endsWith(".safetensors")) {
        throw new PlinthError(
          `${path}: "${name}" points to ${JSON.stringify(file)}, expected a .safetensors file of this folder`,
          "download it again",
        );
      }
      return [name, file];
    }),
  );
}
