import { join } from "node:path";
import { compression, type Dataset, openDataset, Tokenizer, trainBpe } from "../../data/index.ts";
import type { Command } from "../command.ts";

export const command: Command = {
  name: "tokenizer train",
  summary: "Train a byte-level BPE tokenizer on a dataset and write tokenizer.json.",
  example: "plinth tokenizer train --data data/code --vocab-size 4096 --out tokenizers/code",
  options: {
    data: { type: "string", required: true, repeatable: true, summary: "folder written by plinth data build" },
    "vocab-size": {
      type: "integer",
      required: true,
      summary: "size of the vocabulary, bytes and special tokens included",
    },
    "special-token": { type: "string", repeatable: true, summary: "special tokens, the one that ends a text first" },
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
    const specialTokens = args.strings("special-token");
    const vocabSize = args.number("vocab-size") as number;
    const tokenizer = await trainBpe(texts(datasets), {
      vocabSize,
      ...(specialTokens.length === 0 ? {} : { specialTokens }),
      signal: io.signal,
      onProgress: ({ phase, done }) =>
        io.progress(
          phase === "count"
            ? `counting words: document ${done} of ${total}`
            : `merging: ${done} of ${vocabSize} tokens`,
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
      io.note(`The text has no more pairs to merge: ${tokenizer.vocabSize} of ${vocabSize} tokens.`);
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
      vocabSize: tokenizer.vocabSize,
      hash: tokenizer.hash,
      compression: { split, ...own },
      compared,
      seconds: (performance.now() - started) / 1000,
    });
  },
};

async function* texts(datasets: readonly Dataset[]): AsyncGenerator<string> {
  for (const dataset of datasets) yield* dataset.texts("train");
}
