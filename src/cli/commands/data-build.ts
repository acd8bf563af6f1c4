import { buildDataset, type Manifest } from "../../data/index.ts";
import type { Command } from "../command.ts";
import { datasetResult, printDataset } from "../dataset-text.ts";

export const command: Command = {
  name: "data build",
  summary: "Read sources into a dataset with provenance: licences, deduplication, held-out split.",
  example:
    "plinth data build --from npm --from 'notes/**/*.md' --allow-licence MIT,Apache-2.0 --held-out 0.05 --out data/code",
  options: {
    from: {
      type: "string",
      repeatable: true,
      required: true,
      summary: "folder, file, glob, .jsonl, .parquet, or npm for the TypeScript and Markdown of the installed packages",
    },
    "allow-licence": { type: "string", summary: "SPDX ids separated by commas, * as wildcard; others are left out" },
    "deny-licence": { type: "string", summary: "SPDX ids separated by commas, * as wildcard; these are left out" },
    licence: { type: "string", summary: "licence of material that declares none", default: "NOASSERTION" },
    "held-out": { type: "number", summary: "share held out for evaluation", default: 0.05 },
    split: {
      type: "string",
      choices: ["document", "tail"],
      default: "document",
      summary: "hold out whole documents by hash, or the tail of every document (for one long text)",
    },
    seed: { type: "integer", summary: "seed of the split", default: 0 },
    "min-bytes": { type: "integer", summary: "leave out texts shorter than this", default: 1 },
    "text-field": { type: "string", summary: "field or column with the text in JSONL and Parquet", default: "text" },
    out: { type: "string", required: true, summary: "folder to write" },
  },
  async run(args, io) {
    const started = performance.now();
    const list = (name: string) =>
      (args.string(name) ?? "")
        .split(",")
        .map((id) => id.trim())
        .filter((id) => id !== "");
    const textField = args.string("text-field");
    const licence = args.string("licence");
    let last = 0;
    const dataset = await buildDataset({
      from: args.strings("from"),
      out: args.required("out"),
      allowLicences: list("allow-licence"),
      denyLicences: list("deny-licence"),
      heldOut: args.number("held-out") ?? 0.05,
      split: (args.string("split") ?? "document") as Manifest["options"]["split"],
      seed: args.number("seed") ?? 0,
      minBytes: args.number("min-bytes") ?? 1,
      ...(licence === undefined ? {} : { licence }),
      ...(textField === undefined ? {} : { textField }),
      signal: io.signal,
      onProgress: ({ documents, bytes, filtered, source }) => {
        if (performance.now() - last < 100) return;
        last = performance.now();
        const rate = bytes / 1e6 / ((last - started) / 1000);
        io.progress(
          `${source}: ${documents} documents, ${(bytes / 1e6).toFixed(1)} MB, ${filtered} left out, ${rate.toFixed(1)} MB/s`,
        );
      },
    });
    printDataset(dataset, io);
    if (dataset.manifest.splits.heldOut.documents === 0 && dataset.manifest.options.heldOut > 0) {
      io.note(
        "No document was held out: the dataset is small. Use --split tail, another --seed or a larger --held-out.",
      );
    }
    io.result({ ...datasetResult(dataset), seconds: (performance.now() - started) / 1000 });
  },
};
