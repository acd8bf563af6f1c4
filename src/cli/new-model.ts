import { existsSync } from "node:fs";
import { type Dataset, Tokenizer, trainCharTokenizer } from "../data/index.ts";

/** --tokenizer: a folder or file, or `characters` for one token per character of the data. */
export async function openTokenizer(name: string, dataset: Dataset): Promise<Tokenizer> {
  if (name !== "characters" || existsSync(name)) return Tokenizer.load(name);
  return trainCharTokenizer(texts(dataset));
}

async function* texts(dataset: Dataset): AsyncGenerator<string> {
  yield* dataset.texts("train");
  yield* dataset.texts("heldOut");
}

/** generation_config.json of a new model. */
export function generationConfig({ bosId, eosId }: Tokenizer): Record<string, unknown> {
  return {
    _from_model_config: true,
    ...(bosId === undefined ? {} : { bos_token_id: bosId }),
    ...(eosId === undefined ? {} : { eos_token_id: eosId }),
  };
}
