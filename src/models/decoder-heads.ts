import { z } from "zod";
import { PlinthError } from "../base/index.ts";
import { parseModelConfig } from "./config.ts";
import type { ModelConfig, ModelFamily } from "./family.ts";
import { formatHead, type HeadClasses, headKeys, headOf, parseHead } from "./head-config.ts";

/** A decoder's heads: the language model, and a classifier that reads the last token of a text. */
export type DecoderClasses = HeadClasses & { readonly lm: string; readonly "sequence-classification": string };

type Configured<C extends ModelConfig> = Pick<ModelFamily<C>, "parseConfig" | "formatConfig">;

/**
 * What lets a decoder have another head than the language model: config.json names it by its class, with the keys of
 * `headKeys`. `own` reads and writes all other keys. A class that no head here has is the language model's, as the many names
 * in published files are; one of a task is refused by name.
 */
export function decoderHeads<C extends ModelConfig>(
  heads: DecoderClasses,
  own: Configured<C>,
): Configured<C> & Pick<ModelFamily<C>, "architecture" | "heads"> {
  return {
    architecture: heads.lm,
    heads,

    parseConfig(json) {
      const config = own.parseConfig(json);
      const name = String((json as { architectures?: unknown[] | null }).architectures?.[0] ?? heads.lm);
      if (name !== heads["sequence-classification"]) {
        if (!/For(Sequence|Token)Classification$|ForQuestionAnswering$/.test(name)) return config;
        throw new PlinthError(
          `config.json: architectures: ${name} is not implemented`,
          `use one of ${Object.values(heads).join(", ")}`,
        );
      }
      const known = parseModelConfig(pick(json as Json, isHeadKey), z.object(headKeys), []);
      const inert = pick(config.inert, (key) => !isHeadKey(key));
      return Object.freeze({ ...config, head: parseHead(known.values, heads), inert });
    },

    formatConfig(c) {
      const json = own.formatConfig(c);
      if (headOf(c).kind === "lm") return { ...json, architectures: [heads.lm] };
      return {
        ...pick(json, (key) => !isHeadKey(key)),
        // By which the reference tells where a text of a batch ends.
        pad_token_id: json["pad_token_id"] ?? c.eosTokenIds[0] ?? null,
        ...formatHead(c, heads),
      };
    },
  };
}

type Json = Readonly<Record<string, unknown>>;

function isHeadKey(key: string): boolean {
  return Object.hasOwn(headKeys, key);
}

function pick(json: Json, wanted: (key: string) => boolean): Record<string, unknown> {
  return Object.fromEntries(Object.entries(json).filter(([key]) => wanted(key)));
}
