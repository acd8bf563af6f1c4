import { existsSync } from "node:fs";
import { join } from "node:path";
import { makeFolder, PlinthError, readJson, writeJsonAtomic } from "../base/index.ts";
import { formatShape, type NdArray, type Shape, sameShape } from "../engine/index.ts";
import {
  type HeadConfig,
  type HeadKind,
  headConfig,
  headKinds,
  type ParameterSpec,
  readSafetensors,
  writeSafetensors,
} from "../models/index.ts";
import type { LinearModule, Lora } from "./lora-modules.ts";

const prefix = "base_model.model.";
const configFile = "adapter_config.json";
const weightsFile = "adapter_model.safetensors";
/** The head that an adapter has trained, with the names of its labels, which PEFT's file has no place for. */
const headFile = "head.json";
const taskTypes: Readonly<Partial<Record<HeadKind, string>>> = {
  lm: "CAUSAL_LM",
  "sequence-classification": "SEQ_CLS",
  "token-classification": "TOKEN_CLS",
  "question-answering": "QUESTION_ANS",
  none: "FEATURE_EXTRACTION",
};

/**
 * Writes PEFT's two files: `adapter_config.json` and `adapter_model.safetensors` with keys
 * `base_model.model.<module>.lora_A.weight`. The arrays are float32. Throws PlinthError when the folder cannot be written.
 */
export async function writePeft(adapter: Lora, modules: readonly LinearModule[], folder: string): Promise<void> {
  await makeFolder(folder);
  const transposed = modules.some(({ path, transposed }) => transposed && `${path}.lora_A.weight` in adapter.params);
  await writeSafetensors(
    join(folder, weightsFile),
    Object.entries({ ...adapter.params, ...adapter.saved }).map(([name, array]) => [prefix + name, array] as const),
  );
  const savedModules = new Set(Object.keys(adapter.saved ?? {}).map((name) => name.slice(0, name.lastIndexOf("."))));
  if (adapter.head !== undefined) await writeJsonAtomic(join(folder, headFile), adapter.head);
  await writeJsonAtomic(join(folder, configFile), {
    peft_type: "LORA",
    task_type: taskTypes[adapter.head?.kind ?? "lm"] ?? null,
    base_model_name_or_path: adapter.baseModel ?? null,
    inference_mode: true,
    r: adapter.rank,
    lora_alpha: adapter.alpha,
    lora_dropout: adapter.dropout,
    target_modules: adapter.targets,
    fan_in_fan_out: transposed,
    bias: "none",
    use_rslora: adapter.rsLora,
    use_dora: false,
    modules_to_save: savedModules.size === 0 ? null : [...savedModules],
    init_lora_weights: true,
    rank_pattern: {},
    alpha_pattern: {},
  });
}

/** Keys that change nothing once an adapter is trained, whatever they hold. */
const inert = new Set([
  "task_type",
  "peft_version",
  "auto_mapping",
  "base_model_name_or_path",
  "revision",
  "inference_mode",
  "megatron_core",
  "layers_pattern",
  "qalora_group_size",
  // The file's keys say on which layers the adapter sits, and the model how they store their weights.
  "exclude_modules",
  "layers_to_transform",
  "fan_in_fan_out",
]);
/** Ways to begin that leave the base model as it is. The others move a part of its weights into the adapter. */
const plainInits: readonly unknown[] = [true, false, null, undefined, "gaussian", "orthogonal", "eva"];

/** The head that an adapter of this folder was trained with, where it says so. Throws PlinthError when the file is damaged. */
export async function readHead(folder: string): Promise<HeadConfig | undefined> {
  const path = join(folder, headFile);
  if (!existsSync(path)) return undefined;
  const { kind, labels, problem } = (await readJson(path)) as Partial<HeadConfig>;
  if (kind !== undefined && headKinds.includes(kind) && Array.isArray(labels)) return headConfig(kind, labels, problem);
  throw new PlinthError(`${path}: not a head (kind, labels)`, "copy the adapter's folder again");
}

/**
 * Reads a LoRA adapter that PEFT (or Plinth) wrote for a model with these layers, with what it trained whole (`modules_to_save`) of
 * these parameters. Throws PlinthError naming what is missing, does not fit, or uses a feature of PEFT that is not implemented.
 */
export async function readPeft(
  folder: string,
  modules: readonly LinearModule[],
  specs: Readonly<Record<string, ParameterSpec>> = {},
): Promise<Lora> {
  const path = join(folder, configFile);
  const config = (await readJson(path)) as Record<string, unknown>;
  checkFeatures(config, path);
  const rank = numberOf(config, "r", path);
  const alpha = numberOf(config, "lora_alpha", path);
  const dropout = config.lora_dropout === undefined ? 0 : numberOf(config, "lora_dropout", path);
  const whole = Array.isArray(config.modules_to_save) ? (config.modules_to_save as string[]) : [];
  const { params, saved } = await readParams(join(folder, weightsFile), modules, rank, savedShapes(specs, whole, path));
  const head = await readHead(folder);
  checkTargets(config.target_modules, Object.keys(params), path);
  const baseModel = config.base_model_name_or_path;
  return {
    rank,
    alpha,
    dropout,
    rsLora: config.use_rslora === true,
    targets: [...new Set(Object.keys(params).map((name) => name.split(".").at(-3) as string))],
    ...(typeof baseModel === "string" ? { baseModel } : {}),
    params,
    ...(Object.keys(saved).length === 0 ? {} : { saved }),
    ...(head === undefined ? {} : { head }),
  };
}

/** Shapes of the parameters of modules called `names`, matched as suffixes at a dot. */
function savedShapes(
  specs: Readonly<Record<string, ParameterSpec>>,
  names: readonly string[],
  path: string,
): Map<string, Shape> {
  const wanted = new Map<string, Shape>();
  for (const [parameter, { shape }] of Object.entries(specs)) {
    const module = parameter.slice(0, parameter.lastIndexOf("."));
    if (names.some((name) => module === name || module.endsWith(`.${name}`))) wanted.set(parameter, shape);
  }
  if (names.length > 0 && wanted.size === 0) {
    throw new PlinthError(
      `${path}: modules_to_save lists ${names.join(", ")}, which this model does not have`,
      "open the base model with the head that the adapter was trained for",
    );
  }
  return wanted;
}

function checkFeatures(config: Record<string, unknown>, path: string): void {
  if (config.peft_type !== "LORA") {
    throw new PlinthError(
      `${path}: peft_type ${JSON.stringify(config.peft_type)} is not supported`,
      'use an adapter of peft_type "LORA"',
    );
  }
  if (!plainInits.includes(config.init_lora_weights)) {
    throw new PlinthError(
      `${path}: init_lora_weights ${JSON.stringify(config.init_lora_weights)} changes the base model's weights too`,
      "convert the adapter with PEFT's save_pretrained(path_initial_model_for_weight_conversion=...)",
    );
  }
  const read = [
    "peft_type",
    "r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "use_rslora",
    "init_lora_weights",
    "modules_to_save",
  ];
  for (const [key, value] of Object.entries(config)) {
    if (read.includes(key) || inert.has(key) || isOff(value) || (key === "bias" && value === "none")) continue;
    throw new PlinthError(
      `${path}: ${key} ${JSON.stringify(value)} is a feature of PEFT that Plinth does not have`,
      "train the adapter without it, or merge it into the model with PEFT's merge_and_unload()",
    );
  }
}

function isOff(value: unknown): boolean {
  if (value === null || value === false) return true;
  return typeof value === "object" && Object.keys(value as object).length === 0;
}

function numberOf(config: Record<string, unknown>, key: string, path: string): number {
  const value = config[key];
  if (typeof value === "number" && Number.isFinite(value)) return value;
  throw new PlinthError(`${path}: expected a number for ${key}, got ${JSON.stringify(value)}`, `correct ${key}`);
}

async function readParams(
  path: string,
  modules: readonly LinearModule[],
  rank: number,
  whole: ReadonlyMap<string, Shape>,
): Promise<{ params: Record<string, NdArray>; saved: Record<string, NdArray> }> {
  const file = await readSafetensors(path);
  const wanted = new Map<string, Shape>([
    ...modules.flatMap((module): [string, Shape][] => [
      [`${module.path}.lora_A.weight`, [rank, module.in]],
      [`${module.path}.lora_B.weight`, [module.out, rank]],
    ]),
    ...whole,
  ]);
  const found: Record<string, NdArray> = {};
  for (const key of file.entries.keys()) {
    const name = key.startsWith(prefix) ? key.slice(prefix.length) : key;
    const shape = wanted.get(name);
    if (shape === undefined) {
      throw new PlinthError(
        `${path}: "${key}" belongs to no linear layer of this model`,
        "use the adapter with the model that it was trained on",
      );
    }
    const array = file.array(key);
    if (!sameShape(array.shape, shape)) {
      throw new PlinthError(
        `${path}: "${key}" expected ${formatShape(shape)}, got ${formatShape(array.shape)}`,
        "use the adapter with the model that it was trained on",
      );
    }
    found[name] = array;
  }
  // In the order of the model's forward pass, each A before its B.
  const params: Record<string, NdArray> = {};
  for (const { path: module } of modules) {
    const [down, up] = [`${module}.lora_A.weight`, `${module}.lora_B.weight`];
    if (found[down] === undefined && found[up] === undefined) continue;
    for (const name of [down, up]) {
      if (found[name] === undefined) {
        throw new PlinthError(
          `${path}: "${prefix}${name}" is missing`,
          "the file is incomplete; copy or save it again",
        );
      }
      params[name] = found[name];
    }
  }
  if (Object.keys(params).length === 0)
    throw new PlinthError(`${path}: holds no LoRA weights`, "save the adapter again");
  const saved: Record<string, NdArray> = {};
  for (const name of whole.keys()) {
    if (found[name] === undefined) {
      throw new PlinthError(`${path}: "${prefix}${name}" is missing`, "the file is incomplete; copy or save it again");
    }
    saved[name] = found[name];
  }
  return { params, saved };
}

/** Every target that the config lists must be in the file: PEFT would begin a missing one at random. */
function checkTargets(targets: unknown, names: readonly string[], path: string): void {
  if (!Array.isArray(targets)) return;
  const paths = names.map((name) => name.replace(/\.lora_[AB]\.weight$/, ""));
  for (const target of targets as readonly string[]) {
    if (paths.some((module) => module === target || module.endsWith(`.${target}`))) continue;
    throw new PlinthError(
      `${path}: target_modules lists "${target}", but ${weightsFile} has no weights for it`,
      "the adapter is incomplete; copy or save it again",
    );
  }
}
