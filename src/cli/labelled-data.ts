import { readFileSync, statSync } from "node:fs";
import { checkLabelled, encodeLabelled, headOfRecords, holdOut, type LabelledRecord } from "../adapt/index.ts";
import { PlinthError } from "../base/index.ts";
import {
  type Batch,
  type BatchSource,
  contrastiveBatches,
  contrastiveHeldOut,
  labelledBatches,
  labelledHash,
  labelledHeldOut,
  type Tokenizer,
} from "../data/index.ts";
import { loadTasks } from "../evaluate/index.ts";
import { type HeadConfig, headOf, type Model, withHead } from "../models/index.ts";
import type { CommandArgs, CommandIo } from "./command.ts";

/** What a model is to learn labels from, and its head. */
export interface Labelled {
  readonly records: readonly LabelledRecord[];
  readonly head: HeadConfig;
}

/**
 * The labelled records that --task or a JSONL file of --data names; undefined where the file's records are texts to go on writing. Of a
 * task these are its examples (SST-2: train.tsv; JSONL: lines with "split": "train"). Throws PlinthError when there are none.
 */
export async function readLabelled(args: CommandArgs): Promise<Labelled | undefined> {
  const spec = args.string("task");
  if (spec !== undefined) return readTask(spec);
  const path = args.required("data");
  if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) return undefined;
  const lines = readFileSync(path, "utf8").split("\n");
  const records = lines.flatMap((line, i) => {
    const json = line.trim() === "" ? undefined : parseLine(line);
    return json === undefined ? [] : [checkLabelled(json, `${path}:${i + 1}`)];
  });
  const labelled = records.filter((record) => record !== undefined);
  if (labelled.length === 0) return undefined;
  if (labelled.length < records.length) {
    throw new PlinthError(
      `${path}: ${records.length - labelled.length} records have no label`,
      "keep one kind per file",
    );
  }
  return { records: labelled, head: headOfRecords(labelled) };
}

/** What is no JSON is left for the reader of instructions to name. */
function parseLine(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return {};
  }
}

async function readTask(spec: string): Promise<Labelled> {
  const [task, ...more] = await loadTasks(spec);
  if (task?.kind !== "choice" || more.length > 0) {
    throw new PlinthError(`--task ${spec}: expected one task with choices`, "name one such as sst2=PATH");
  }
  const examples = task.examples ?? [];
  if (examples.length === 0) {
    throw new PlinthError(
      `--task ${spec}: it has no examples to learn from`,
      "name the folder, or add lines of split train",
    );
  }
  const labels = [...new Set([...examples, ...task.items].flatMap(({ choices }) => choices))];
  return {
    records: examples.map(({ text, prompt, pair, choices, answer }) => ({
      text: text ?? prompt,
      pair,
      label: choices[answer] as string,
    })),
    head: { kind: "sequence-classification", labels, problem: "single_label_classification" },
  };
}

/** The model under the head that the records are for. A head that has the same labels stays as it is. */
export function withHeadFor(model: Model, { head }: Labelled, io: CommandIo, seed: number): Model {
  const present = headOf(model.config);
  const isSame =
    present.kind === head.kind && [...present.labels].sort().join("\n") === [...head.labels].sort().join("\n");
  const labels = isSame ? present.labels : head.labels;
  return withHead(model, { head: head.kind, labels, problem: head.problem, seed, onNote: (text) => io.note(text) });
}

/** Batches of the records, a share of them held out. `context`: default the longest text. */
export async function labelledData(
  { records }: Labelled,
  model: Model,
  io: CommandIo,
  options: { batchSize: number; context: number | undefined; heldOutShare: number; seed: number; maxBatches: number },
): Promise<{ data: BatchSource; heldOut?: AsyncIterable<Batch>; context: number; hash: string }> {
  const { batchSize, heldOutShare, seed, maxBatches } = options;
  const head = headOf(model.config);
  const room = Math.min(options.context ?? model.config.contextLength, model.config.contextLength);
  const split = holdOut(records, heldOutShare, seed);
  const encode = (part: readonly LabelledRecord[]) => {
    const closed = model.family.kind === "encoder";
    return encodeLabelled(part, model.tokenizer as Tokenizer, { head, context: room, closed });
  };
  const [train, rest] = [await encode(split.train), await encode(split.heldOut)];
  const longest = Math.max(...[...train.texts, ...rest.texts].map(({ ids }) => ids.length));
  const context = options.context ?? Math.min(room, Math.ceil(longest / 8) * 8);
  if (train.cut > 0) io.note(`${train.cut} texts are longer than the context of ${room} tokens and lost their end`);
  io.note(`${split.train.length} records to learn from, ${split.heldOut.length} held out, rows of ${context} tokens`);
  const { layout, pad } = train;
  const shared = { batchSize, context, layout, pad, seed };
  const hash = labelledHash(train.texts);
  if (head.kind === "none") {
    const group = "negative" in (records[0] as object) && train.texts.length === 3 * split.train.length ? 3 : 2;
    const isMeasured = rest.texts.length >= group * batchSize;
    return {
      data: contrastiveBatches(train.texts, group, shared),
      ...(isMeasured ? { heldOut: contrastiveHeldOut(rest.texts, group, shared) } : {}),
      context,
      hash,
    };
  }
  const measured = rest.texts.slice(0, maxBatches * batchSize);
  return {
    data: labelledBatches(train.texts, shared),
    ...(measured.length === 0 ? {} : { heldOut: labelledHeldOut(measured, shared) }),
    context,
    hash,
  };
}
