import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { explainReadError, nearestName, PlinthError } from "../base/index.ts";
import { hasTokenizer, Tokenizer } from "../data/index.ts";
import { formatShape, type NdArray, sameShape } from "../engine/index.ts";
import { type ModelConfig, type ModelFamily, modelFamily, type ParameterSpec } from "./family.ts";
import type { SourceFile, SourceTensor } from "./formats/checkpoint-source.ts";
import type { TensorFile } from "./formats/safetensors.ts";
import { openWeights } from "./formats/weight-files.ts";
import type { Model } from "./model.ts";
import { type HeadOptions, withHead } from "./with-head.ts";

/**
 * Opens a Hugging Face model folder: config.json, weights (mapped, in their own element type; safetensors, or PyTorch's
 * .bin read as data, which executes nothing), and where present a tokenizer and generation_config.json. Throws one PlinthError that names the culprit when anything does not fit:
 * config keys, weights missing, unused or of another shape, a tokenizer with more ids than the model has rows. With `head`
 * the model gets that head instead of its own, as {@link withHead} says.
 */
export async function loadModel(dir: string, options?: HeadOptions): Promise<Model> {
  const model = await openFolder(dir);
  return options === undefined ? model : withHead(model, options);
}

async function openFolder(dir: string): Promise<Model> {
  const configPath = join(dir, "config.json");
  if (!existsSync(configPath)) {
    throw new PlinthError(
      existsSync(dir) ? `${dir}: no config.json` : `${dir}: no such folder`,
      "name a folder that holds a model in Hugging Face's format (config.json and model.safetensors)",
    );
  }
  const configText = await readText(configPath);
  const { family, config } = parseConfigFile(configText, dir);
  const { files, format, indexText } = await openWeights(dir);
  const { params, sources } = assignWeights(family, config, files, dir);

  const generationConfigText = await readOptional(join(dir, "generation_config.json"));
  const generationConfig =
    generationConfigText === undefined ? undefined : parseJson(generationConfigText, `${dir}/generation_config.json`);
  const tokenizer = (await hasTokenizer(dir)) ? await Tokenizer.load(dir) : undefined;
  if (tokenizer !== undefined) checkVocabulary(tokenizer, config, dir);
  return {
    family,
    config,
    params,
    tokenizer,
    generationConfig,
    source: {
      // What is saved is always safetensors: only its files are written back as they were.
      ...(format === "safetensors" ? { files: sources } : {}),
      ...(indexText === undefined ? {} : { indexText }),
      configText,
      config,
      ...(generationConfigText === undefined ? {} : { generationConfigText }),
    },
  };
}

/** Throws PlinthError when the tokenizer has ids that the model has no embedding for. */
export function checkVocabulary(tokenizer: Tokenizer, config: ModelConfig, where: string): void {
  if (tokenizer.vocabSize > config.vocabSize) {
    throw new PlinthError(
      `${where}: the tokenizer has ${tokenizer.vocabSize} ids, the model has rows for ${config.vocabSize} (vocab_size)`,
      "use the tokenizer that the model was trained with",
    );
  }
}

function parseConfigFile(text: string, dir: string): { family: ModelFamily; config: ModelConfig } {
  const json = parseJson(text, join(dir, "config.json"));
  const modelType = json.model_type;
  if (typeof modelType !== "string") {
    throw new PlinthError(`${dir}/config.json: no model_type`, "copy the config.json that belongs to the weights");
  }
  const family = modelFamily(modelType, `${dir}/config.json`);
  try {
    return { family, config: family.parseConfig(json) };
  } catch (error) {
    if (error instanceof PlinthError) throw new PlinthError(join(dir, error.message), undefined, { cause: error });
    throw error;
  }
}

/** Matches what the files hold with what the model needs. */
function assignWeights(
  family: ModelFamily,
  config: ModelConfig,
  files: ReadonlyMap<string, TensorFile>,
  dir: string,
): { params: Map<string, NdArray>; sources: SourceFile[] } {
  const specs = family.parameters(config);
  const naming = family.checkpoint;
  const tied = naming.tied(config);
  const prefixed = (name: string): string => `${naming.optionalPrefix ?? ""}${name}`;
  const found = new Map<string, { array: NdArray; stored: string }>();
  const copies: { name: string; parameter: string; array: NdArray }[] = [];
  const unused: string[] = [];

  const sources = [...files].map(([fileName, file]): SourceFile => {
    const tensors = [...file.entries].map(([name, { dtype }]): SourceTensor => {
      if (!Object.hasOwn(specs, name) && naming.inert.test(name))
        return { name, dtype, holds: { inert: file.stored(name) } };
      const copied = Object.hasOwn(tied, name) ? tied[name] : undefined;
      if (copied !== undefined) {
        copies.push({ name, parameter: copied, array: file.array(name) });
        return { name, dtype, holds: { parameter: copied } };
      }
      const parameter = Object.hasOwn(specs, name) ? name : prefixed(name);
      const spec = Object.hasOwn(specs, parameter) ? specs[parameter] : undefined;
      if (spec === undefined) {
        unused.push(name);
        return { name, dtype, holds: { inert: file.stored(name) } };
      }
      const array = file.array(name);
      checkShape(array, spec, `${join(dir, fileName)}: tensor "${name}"`);
      const other = found.get(parameter);
      if (other !== undefined) {
        throw new PlinthError(`${dir}: "${other.stored}" and "${name}" are the same parameter`, "remove one of them");
      }
      found.set(parameter, { array, stored: name });
      return { name, dtype, holds: { parameter } };
    });
    return { file: fileName, metadata: file.metadata, tensors };
  });

  // A tied checkpoint may hold only the copy.
  for (const { name, parameter, array } of copies) {
    checkShape(array, specs[parameter] as ParameterSpec, `${dir}: tensor "${name}"`);
    const original = found.get(parameter);
    if (original === undefined) found.set(parameter, { array, stored: name });
    else if (!sameBytes(array, original.array)) {
      throw new PlinthError(
        `${dir}: config.json ties "${name}" to "${original.stored}", and the weights of the two differ`,
        "set tie_word_embeddings to false in config.json, or remove the one that was not trained",
      );
    }
  }
  checkComplete(Object.keys(specs), found, unused, dir);
  const params = new Map(Object.keys(specs).map((name) => [name, (found.get(name) as { array: NdArray }).array]));
  return { params, sources };
}

function checkShape(array: NdArray, spec: ParameterSpec, what: string): void {
  if (!sameShape(array.shape, spec.shape)) {
    throw new PlinthError(
      `${what}: expected shape ${formatShape(spec.shape)} from config.json, got ${formatShape(array.shape)}`,
      "config.json and weights come from different models; download both again",
    );
  }
}

function checkComplete(
  expected: readonly string[],
  found: ReadonlyMap<string, unknown>,
  unused: readonly string[],
  dir: string,
): void {
  const missing = expected.filter((name) => !found.has(name));
  if (missing.length === 0 && unused.length === 0) return;
  const problems: string[] = [];
  if (missing.length > 0) problems.push(`${missing.length} weights missing: ${listNames(missing, unused)}`);
  if (unused.length > 0) problems.push(`${unused.length} weights unused: ${listNames(unused, expected)}`);
  throw new PlinthError(
    `${dir}: ${problems.join("; ")}`,
    "check that config.json belongs to these weights (layers, biases, tie_word_embeddings)",
  );
}

/** Up to five names, each with the nearest of the others. */
function listNames(names: readonly string[], others: readonly string[]): string {
  const shown = names.slice(0, 5).map((name) => {
    const near = nearestName(name, others);
    return `"${name}"${near === undefined || near === name ? "" : ` (nearest: "${near}")`}`;
  });
  return shown.join(", ") + (names.length > 5 ? ", ..." : "");
}

function sameBytes(a: NdArray, b: NdArray): boolean {
  const bytes = ({ data }: NdArray): Uint8Array => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return a.dtype === b.dtype && Buffer.compare(bytes(a), bytes(b)) === 0;
}

function parseJson(text: string, path: string): Record<string, unknown> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new PlinthError(
      `${path}: not valid JSON (${(error as Error).message})`,
      "the file is damaged; download it again",
    );
  }
  if (typeof json === "object" && json !== null && !Array.isArray(json)) return json as Record<string, unknown>;
  throw new PlinthError(`${path}: expected a JSON object`, "the file is damaged; download it again");
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw explainReadError(error, path);
  }
}

async function readOptional(path: string): Promise<string | undefined> {
  return existsSync(path) ? await readText(path) : undefined;
}
