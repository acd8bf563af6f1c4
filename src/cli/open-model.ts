import { existsSync } from "node:fs";
import { join } from "node:path";
import { loadAdapter } from "../adapt/index.ts";
import { PlinthError, readJson } from "../base/index.ts";
import { loadModel, type Model, type ModelQuantization, quantizeModel } from "../models/index.ts";
import { listCheckpoints } from "../train/index.ts";

/**
 * Opens what a command calls MODEL (a model's folder, a training run's folder, a checkpoint) and --adapter (the same for
 * adapters), with the adapter on it, quantised first where that is asked for. Of a run that has not ended, the newest checkpoint is taken. Throws PlinthError when it is none of these.
 */
export async function openModel(path: string, adapterPath?: string, quantization?: ModelQuantization): Promise<Model> {
  const folder = await holding(path, "config.json");
  if (folder === undefined && (await holding(path, "adapter_config.json")) !== undefined) {
    const config = (await readJson(
      join((await holding(path, "adapter_config.json")) as string, "adapter_config.json"),
    )) as {
      base_model_name_or_path?: unknown;
    };
    const base = typeof config.base_model_name_or_path === "string" ? config.base_model_name_or_path : "MODEL";
    throw new PlinthError(
      `${path} is an adapter, not a model`,
      `name the model it was made for: ${base} --adapter ${path}`,
    );
  }
  const loaded = await loadModel(folder ?? path);
  const model = quantization === undefined ? loaded : quantizeModel(loaded, quantization);
  if (adapterPath === undefined) return model;
  const adapterFolder = await holding(adapterPath, "adapter_config.json");
  if (adapterFolder === undefined) {
    throw new PlinthError(
      `${adapterPath}: ${existsSync(adapterPath) ? "no adapter_config.json" : "no such folder"}`,
      "name the folder that plinth adapt --method lora (or PEFT) wrote",
    );
  }
  return await loadAdapter(model, adapterFolder);
}

/** The folder itself when it holds the file, else the newest checkpoint in it that does. */
async function holding(path: string, file: string): Promise<string | undefined> {
  if (existsSync(join(path, file))) return path;
  const checkpoints = await listCheckpoints(path);
  return checkpoints.reverse().find(({ folder }) => existsSync(join(folder, file)))?.folder;
}
