import { z } from "zod";
import { nearestName, PlinthError } from "../base/index.ts";
import type { ModelConfig, ModelDials } from "./family.ts";

/**
 * Checks the contents of a config.json against a model's schema. Keys listed in `inertKeys` (an entry ending in `*`
 * matches a prefix) change nothing in the model and are handed back for writing. Throws PlinthError naming every wrong
 * value, and for an unknown key the nearest known one.
 */
export function parseModelConfig<S extends z.ZodObject>(
  json: unknown,
  schema: S,
  inertKeys: readonly string[],
): { values: z.output<S>; inert: Record<string, unknown> } {
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new PlinthError("config.json: expected an object", "copy the config.json that belongs to the weights");
  }
  const known = Object.keys(schema.shape);
  const values: Record<string, unknown> = {};
  const inert: Record<string, unknown> = {};
  const unknown: string[] = [];
  for (const [key, value] of Object.entries(json)) {
    if (known.includes(key)) values[key] = value;
    else if (isListed(key, inertKeys)) inert[key] = value;
    else unknown.push(key);
  }
  if (unknown.length > 0) {
    const names = unknown.slice(0, 5).map((key) => {
      const near = nearestName(key, [...known, ...inertKeys]);
      return `"${key}"${near === undefined ? "" : ` (did you mean "${near}"?)`}`;
    });
    throw new PlinthError(
      `config.json: unknown key${unknown.length > 1 ? "s" : ""} ${names.join(", ")}`,
      "correct the name, or remove it if the weights do not depend on it",
    );
  }
  const result = schema.safeParse(values);
  if (!result.success) {
    const problems = result.error.issues.slice(0, 5).map((issue) => {
      if (issue.path.length === 0) return issue.message;
      return `${issue.path.join(".")}: ${issue.message}, got ${show(valueAt(values, issue.path))}`;
    });
    throw new PlinthError(
      `config.json: ${problems.join("; ")}`,
      "correct config.json; it must be the one the weights came with",
    );
  }
  return { values: result.data, inert };
}

/** Keys that every Hugging Face config may carry and that change nothing in how a trained decoder computes. */
export const commonInertKeys: readonly string[] = [
  "_name_or_path",
  "_from_model_config",
  "_attn_implementation",
  "architectures",
  "attn_implementation",
  "auto_map",
  "chunk_size_feed_forward",
  "dtype",
  "finetuning_task",
  "gradient_checkpointing",
  "id2label",
  "is_decoder",
  "is_encoder_decoder",
  "label2id",
  "num_labels",
  "output_attentions",
  "output_hidden_states",
  "pad_token_id",
  "problem_type",
  "return_dict",
  "task_specific_params",
  "tokenizer_class",
  "torch_dtype",
  "torchscript",
  "transformers_version",
  "use_bfloat16",
  "use_cache",
];

/** End-of-sequence ids as config.json has them: absent, null, one, or several. */
export const tokenIds = z
  .union([z.int().nonnegative(), z.array(z.int().nonnegative())])
  .nullish()
  .transform((ids) => (ids === null || ids === undefined ? [] : typeof ids === "number" ? [ids] : ids));

/** The reverse of {@link tokenIds}. */
export function formatTokenIds(ids: readonly number[]): number | readonly number[] | null {
  return ids.length === 0 ? null : ids.length === 1 ? (ids[0] as number) : ids;
}

/** Throws PlinthError unless one key's value is a whole multiple of another's. */
export function expectMultiple<K extends string>(values: Readonly<Record<K, number>>, key: K, of: K): void {
  if (values[key] % values[of] === 0) return;
  throw new PlinthError(
    `config.json: ${key} ${values[key]} is not a multiple of ${of} ${values[of]}`,
    "change one of them",
  );
}

/** Throws PlinthError where the dials ask for grouped-query attention of an architecture that has none. */
export function expectAllKvHeads(modelType: string, { numHeads, numKvHeads = numHeads }: ModelDials): void {
  if (numKvHeads === numHeads) return;
  throw new PlinthError(
    `${modelType}: ${numKvHeads} key-value heads for ${numHeads} heads; ${modelType} has no grouped-query attention`,
    "leave the number of key-value heads out, or choose the llama architecture",
  );
}

/** The part of a config that says which tokens begin and end a text. */
export function endTokens(c: {
  readonly bos_token_id?: number | null | undefined;
  readonly eos_token_id: readonly number[];
}): Pick<ModelConfig, "bosTokenId" | "eosTokenIds"> {
  const bos = c.bos_token_id ?? undefined;
  return { ...(bos === undefined ? {} : { bosTokenId: bos }), eosTokenIds: c.eos_token_id };
}

/** The reverse of {@link endTokens}. */
export function formatEndTokens({ bosTokenId, eosTokenIds }: Pick<ModelConfig, "bosTokenId" | "eosTokenIds">) {
  return { bos_token_id: bosTokenId ?? null, eos_token_id: formatTokenIds(eosTokenIds) };
}

function isListed(key: string, list: readonly string[]): boolean {
  return list.some((entry) => (entry.endsWith("*") ? key.startsWith(entry.slice(0, -1)) : key === entry));
}

function valueAt(root: unknown, path: readonly PropertyKey[]): unknown {
  let value = root;
  for (const key of path) value = (value as Record<PropertyKey, unknown> | undefined)?.[key];
  return value;
}

function show(value: unknown): string {
  return value === undefined ? "nothing" : (JSON.stringify(value) ?? String(value));
}
