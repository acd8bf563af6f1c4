import { type Document, openDataset } from "../../data/index.ts";
import type { Command } from "../command.ts";
import { datasetResult, printDataset } from "../dataset-text.ts";

export const command: Command = {
  name: "data show",
  summary: "Print a dataset's counts, bytes, licences, sources, what was left out, and samples.",
  example: "plinth data show data/code --samples 5",
  positionals: [{ name: "DIR", required: true, summary: "folder written by plinth data build" }],
  options: { samples: { type: "integer", summary: "documents shown, spread over the training split", default: 3 } },
  async run(args, io) {
    const dataset = await openDataset(args.positionals[0] as string);
    const samples: Document[] = [];
    const wanted = args.number("samples") ?? 3;
    const { documents } = dataset.manifest.splits.train;
    const every = Math.max(1, Math.floor(documents / Math.max(1, wanted)));
    let i = 0;
    if (wanted > 0) {
      for await (const document of dataset.documents("train")) {
        if (i++ % every === 0 && samples.length < wanted) samples.push(document);
        if (samples.length === wanted) break;
      }
    }
    printDataset(dataset, io);
    for (const { source, licence, retrievedAt, sha256, transformations, text } of samples) {
      const steps = transformations.length === 0 ? "unchanged" : transformations.join(", ");
      io.print(
        `\n--- ${source}\n    ${licence}, retrieved ${retrievedAt}, sha256 ${sha256.slice(0, 12)}, ${steps}\n${excerpt(text, 400)}`,
      );
    }
    io.result({
      ...datasetResult(dataset),
      samples: samples.map(({ text, ...rest }) => ({
        ...rest,
        bytes: Buffer.byteLength(text),
        text: excerpt(text, 400),
      })),
    });
  },
};

/** The first characters, cut between characters, with control characters made visible. */
function excerpt(text: string, length: number): string {
  const characters = [...text.slice(0, 2 * length)].slice(0, length).join("");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: a document must not drive the terminal
  const shown = characters.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, "\uFFFD");
  return shown.length < text.length ? `${shown}…` : shown;
}
