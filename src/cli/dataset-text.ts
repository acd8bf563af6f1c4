import type { Dataset } from "../data/index.ts";
import type { CommandIo } from "./command.ts";

/** What `--json` says of a dataset. */
export function datasetResult(dataset: Dataset): Record<string, unknown> {
  const { createdAt, hash, options, sources, splits, licences, collections, filtered } = dataset.manifest;
  const tally = ({ documents, bytes }: { documents: number; bytes: number }) => ({ documents, bytes });
  return {
    dir: dataset.dir,
    hash,
    createdAt,
    options,
    splits: { train: tally(splits.train), heldOut: tally(splits.heldOut) },
    sources,
    licences,
    collections,
    filtered,
  };
}

/** The same for people. */
export function printDataset(dataset: Dataset, io: CommandIo): void {
  const { hash, sources, splits, licences, collections, filtered } = dataset.manifest;
  io.print(`${dataset.dir}  (hash ${hash.slice(0, 12)})`);
  io.print(
    table([["split", "documents", "bytes"], ...(["train", "heldOut"] as const).map((name) => row(name, splits[name]))]),
  );
  io.print(
    table([
      ["source", "documents", "bytes"],
      ...sources.map((source) => row(`${source.from} (${source.kind})`, source)),
    ]),
  );
  io.print(table([["licence", "documents", "bytes"], ...byBytes(licences).map(([name, tally]) => row(name, tally))]));
  const units = byBytes(collections);
  if (units.length > 0) {
    const rows = units.slice(0, 10).map(([name, tally]) => [...row(name, tally), tally.licence]);
    const more = units.length > 10 ? `\n${units.length - 10} more packages` : "";
    io.print(table([["package", "documents", "bytes", "licence"], ...rows]) + more);
  }
  const reasons = Object.entries(filtered);
  if (reasons.length > 0) {
    io.print(
      table([
        ["left out", "count", "for example"],
        ...reasons.map(([name, { count, examples }]) => [name, `${count}`, examples[0] ?? ""]),
      ]),
    );
  }
}

function row(name: string, tally: { documents: number; bytes: number }): string[] {
  return [name, `${tally.documents}`, tally.bytes.toLocaleString("en")];
}

function byBytes<T extends { bytes: number }>(tallies: Readonly<Record<string, T>>): [string, T][] {
  return Object.entries(tallies).sort(([, a], [, b]) => b.bytes - a.bytes);
}

/** Columns aligned; numbers to the right. */
function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((cells) => (cells[i] ?? "").length)));
  const isNumber = (i: number) => rows.slice(1).every((cells) => /^[\d,]+$/.test(cells[i] ?? ""));
  const numeric = widths.map((_, i) => isNumber(i));
  const lines = rows.map((cells) =>
    cells
      .map((cell, i) => (numeric[i] === true ? cell.padStart(widths[i] as number) : cell.padEnd(widths[i] as number)))
      .join("  ")
      .trimEnd(),
  );
  return `\n${lines.join("\n")}`;
}
