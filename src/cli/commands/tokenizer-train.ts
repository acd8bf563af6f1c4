import { join } from "node:path";
import { PlinthError } from "../../base/index.ts";
import {
  bertSpecialTokens,
  compression,
  type Dataset,
  defaultSpecialTokens,
  openDataset,
  Tokenizer,
  type TrainingControl,
  trainBpe,
  trainUnigram,
  trainWordPiece,
  unigramSpecialTokens,
} from "../../data/index.ts";
import type { Command, CommandArgs } from "../command.ts";

const types = ["bpe", "wordpiece", "unigram"] as const;
type TokenizerType = (typeof types)[number];

export const command: Command = {
  name: "tokenizer train",
  summary: "Train a tokenizer on a dataset and write tokenizer.json.",
  example: "plinth tokenizer train --data data/code --vocab-size 4096 --out tokenizers/code",
  options: {
    data: { type: "string", required: true, repeatable: true, summary: "folder written by plinth data build" },
    "vocab-size": {
      type: "integer",
      required: true,
      summary: "size of the vocabulary, bytes and special tokens included",
    },
    type: {
      type: "string",
      choices: types,
      default: "bpe",
      summary: "bpe: byte-level (GPT, Llama 3, StarCoder); wordpiece: BERT; unigram: SentencePiece (T5)",
    },
    "special-token": {
      type: "string",
      repeatable: true,
      summary:
        "special tokens, first in the vocabulary; bpe: the one that ends a text first (default: those of the type)",
    },
    sentinels: {
      type: "integer",
      summary: "add <extra_id_0>, <extra_id_1>, ...: as many, for span corruption (T5 has 100)",
    },
    lowercase: { type: "boolean", summary: "lowercase the text; wordpiece also drops its accents" },
    "alphabet-size": { type: "integer", summary: "wordpiece: most characters, the rarer ones unknown (default: all)" },
    "character-coverage": {
      type: "number",
      summary: "unigram: share of the text's characters to know (default 0.9995)",
    },
    "keep-whitespace": {
      type: "boolean",
      summary: "unigram: text comes back as it was; else, as T5 has it, NFKC and single spaces",
    },
    compare: {
      type: "string",
      repeatable: true,
      summary:
        "tokenizer folder or file (tokenizer.json, or GPT-2's vocab.json beside merges.txt) to compare the compression with",
    },
    out: { type: "string", required: true, summary: "folder to write" },
  },
  async run(args, io) {
    const started = performance.now();
    const datasets = await Promise.all(args.strings("data").map(openDataset));
    const rivals = await Promise.all(
      args.strings("compare").map(async (path) => ({ path, tokenizer: await Tokenizer.load(path) })),
    );
    const total = datasets.reduce((sum, { manifest }) => sum + manifest.splits.train.documents, 0);
    const type = (args.string("type") ?? "bpe") as TokenizerType;
    const vocabSize = args.number("vocab-size") as number;
    const phases = { merge: "merging", prune: "pruning" };
    const tokenizer = await trainTokenizer(type, texts(datasets), args, {
      signal: io.signal,
      onProgress: ({ phase, done }) =>
        io.progress(
          phase === "count"
            ? `counting words: document ${done} of ${total}`
            : `${phases[phase]}: ${done} of ${vocabSize} tokens`,
        ),
    });
    const out = args.required("out");
    await tokenizer.save(out);
    io.progress("measuring compression");
    // What was held out tells how the vocabulary does on text it was not made from.
    const split = datasets.some(({ manifest }) => manifest.splits.heldOut.documents > 0) ? "heldOut" : "train";
    const measure = (each: Tokenizer) => compression(each, datasets, { split, signal: io.signal });
    const own = await measure(tokenizer);
    const compared = [];
    for (const { path, tokenizer: rival } of rivals)
      compared.push({ path, vocabSize: rival.vocabSize, ...(await measure(rival)) });

    if (tokenizer.vocabSize < vocabSize)
      io.note(`The text has no more pieces to learn: ${tokenizer.vocabSize} of ${vocabSize} tokens.`);
    io.print(`${join(out, "tokenizer.json")}: ${tokenizer.vocabSize} tokens`);
    io.print(
      `compression on ${split === "heldOut" ? "held-out" : "training"} text: ${own.bytesPerToken.toFixed(3)} bytes per token`,
    );
    for (const { path, vocabSize: size, bytesPerToken } of compared) {
      const ratio = own.bytesPerToken / bytesPerToken;
      io.print(
        `  ${path} (${size} tokens): ${bytesPerToken.toFixed(3)} bytes per token; this one has ${ratio.toFixed(3)} times as many`,
      );
    }
    io.result({
      out,
      type,
      vocabSize: tokenizer.vocabSize,
      hash: tokenizer.hash,
      compression: { split, ...own },
      compared,
      seconds: (performance.now() - started) / 1000,
    });
  },
};

const specialTokensOf: Readonly<Record<TokenizerType, readonly string[]>> = {
  bpe: defaultSpecialTokens,
  wordpiece: bertSpecialTokens,
  unigram: unigramSpecialTokens,
};

/** Flags that belong to some types of tokenizer only. */
const flagsOf: Readonly<Record<TokenizerType, readonly string[]>> = {
  bpe: ["lowercase"],
  wordpiece: ["lowercase", "alphabet-size"],
  unigram: ["lowercase", "character-coverage", "keep-whitespace"],
};

function trainTokenizer(
  type: TokenizerType,
  documents: AsyncIterable<string>,
  args: CommandArgs,
  control: TrainingControl,
): Promise<Tokenizer> {
  for (const flag of Object.values(flagsOf).flat()) {
    const isGiven =
      flag === "lowercase" || flag === "keep-whitespace" ? args.boolean(flag) : args.number(flag) !== undefined;
    if (!isGiven || flagsOf[type].includes(flag)) continue;
    const fit = types.filter((other) => flagsOf[other].includes(flag)).join(" or ");
    throw new PlinthError(`--${flag} does not apply to --type ${type}`, `leave it out, or use --type ${fit}`);
  }
  const given = args.strings("special-token");
  const sentinels = Array.from({ length: args.number("sentinels") ?? 0 }, (_, i) => `<extra_id_${i}>`);
  const common = {
    vocabSize: args.number("vocab-size") as number,
    specialTokens: [...(given.length === 0 ? specialTokensOf[type] : given), ...sentinels],
    ...control,
  };
  const lowercase = args.boolean("lowercase");
  const alphabetSize = args.number("alphabet-size");
  const characterCoverage = args.number("character-coverage");
  switch (type) {
    case "bpe":
      return trainBpe(documents, { ...common, lowercase });
    case "wordpiece":
      return trainWordPiece(documents, {
        ...common,
        lowercase,
        ...(alphabetSize === undefined ? {} : { alphabetSize }),
      });
    case "unigram":
      return trainUnigram(documents, {
        ...common,
        lowercase,
        normalize: !args.boolean("keep-whitespace"),
        ...(characterCoverage === undefined ? {} : { characterCoverage }),
      });
  }
}

async function* texts(datasets: readonly Dataset[]): AsyncGenerator<string> {
  for (const dataset of datasets) yield* dataset.texts("train");
}
