import { PlinthError } from "../base/index.ts";
import {
  encodePairs,
  ignoreIndex,
  joinPair,
  type LabelledText,
  pairTokens,
  type TargetLayout,
  type Tokenizer,
} from "../data/index.ts";
import { type HeadConfig, headConfig } from "../models/index.ts";

/** What a text (or pair of texts) is: one of several labels, several of them at once, or a number. */
export interface TextRecord {
  readonly text: string;
  readonly pair?: string | undefined;
  readonly label: string | number | readonly string[];
}

/** What every word of a text is. */
export interface WordsRecord {
  readonly tokens: readonly string[];
  readonly labels: readonly string[];
}

/** A question and the passage that answers it; `start` counts UTF-16 units of the passage. No answer: it has none. */
export interface QuestionRecord {
  readonly question: string;
  readonly context: string;
  readonly answers: readonly { readonly text: string; readonly start: number }[];
}

/** A text and one that means the same; optionally one that does not. */
export interface SimilarRecord {
  readonly text: string;
  readonly positive: string;
  readonly negative?: string | undefined;
}

export type LabelledRecord = TextRecord | WordsRecord | QuestionRecord | SimilarRecord;

/** Whether a record of a JSONL file is one of {@link LabelledRecord}. Throws PlinthError when it begins like one and is none. */
export function checkLabelled(json: unknown, where: string): LabelledRecord | undefined {
  const record = (typeof json === "object" && json !== null ? json : {}) as Record<string, unknown>;
  const { text, pair, label, tokens, labels, question, context, answers, positive, negative } = record;
  const isText = (value: unknown): value is string => typeof value === "string";
  const texts = (value: unknown): value is string[] => Array.isArray(value) && value.every(isText);
  const wrong = (expected: string): never => {
    throw new PlinthError(`${where}: expected ${expected}`, "correct the record");
  };
  if (label !== undefined) {
    if (
      isText(text) &&
      (pair === undefined || isText(pair)) &&
      (isText(label) || typeof label === "number" || texts(label))
    ) {
      return { text, pair, label };
    }
    return wrong('"text", perhaps "pair", and "label" (a name, several names, or a number)');
  }
  if (tokens !== undefined) {
    if (texts(tokens) && texts(labels) && tokens.length === labels.length) return { tokens, labels };
    return wrong('"tokens" and as many "labels"');
  }
  if (question !== undefined) {
    const given = answers ?? [];
    const isAnswer = (a: Record<string, unknown> | null): boolean =>
      isText(a?.["text"]) && Number.isInteger(a?.["start"]);
    if (isText(question) && isText(context) && Array.isArray(given) && given.every(isAnswer)) {
      return { question, context, answers: given as QuestionRecord["answers"] };
    }
    return wrong('"question", "context" and "answers" ({"text", "start"})');
  }
  if (positive === undefined) return undefined;
  if (isText(text) && isText(positive) && (negative === undefined || isText(negative)))
    return { text, positive, negative };
  return wrong('"text", "positive" and perhaps "negative" (texts)');
}

/** The head that records are for, with the labels that occur in them, sorted. Throws PlinthError when they are of several kinds. */
export function headOfRecords(records: readonly LabelledRecord[]): HeadConfig {
  const kinds = new Set(records.map(kindOf));
  const [kind] = kinds;
  if (kinds.size > 1 || kind === undefined) {
    throw new PlinthError(`records of several kinds in one file: ${[...kinds].join(", ")}`, "keep one kind per file");
  }
  const names = (of: (record: LabelledRecord) => readonly string[]): string[] =>
    [...new Set(records.flatMap(of))].sort();
  switch (kind) {
    case "one label":
      return headConfig(
        "sequence-classification",
        names((r) => [(r as TextRecord).label as string]),
        "single_label_classification",
      );
    case "several labels":
      return headConfig(
        "sequence-classification",
        names((r) => (r as TextRecord).label as string[]),
        "multi_label_classification",
      );
    case "a number":
      return headConfig("sequence-classification", ["value"], "regression");
    case "words":
      return headConfig(
        "token-classification",
        names((r) => (r as WordsRecord).labels),
      );
    case "a question":
      return headConfig("question-answering");
    case "similar texts":
      return headConfig("none");
  }
}

function kindOf(record: LabelledRecord) {
  if ("tokens" in record) return "words";
  if ("question" in record) return "a question";
  if ("positive" in record) return "similar texts";
  if (typeof record.label === "string") return "one label";
  return typeof record.label === "number" ? "a number" : "several labels";
}

/** Records as rows of a batch. */
export interface LabelledData {
  readonly texts: readonly LabelledText[];
  readonly layout: TargetLayout;
  readonly pad: number;
  /** Rows that lost their end. */
  readonly cut: number;
}

/**
 * Records of one kind, encoded for a model with the head that they are for. A record of similar texts gives two or three rows, see
 * `contrastiveBatches`. `closed` as of `encodePairs`, for classes of texts. Throws PlinthError naming a label that the head does not have.
 */
export async function encodeLabelled(
  records: readonly LabelledRecord[],
  tokenizer: Tokenizer,
  { head, context, closed = true }: { readonly head: HeadConfig; readonly context: number; readonly closed?: boolean },
): Promise<LabelledData> {
  const { pad } = pairTokens(tokenizer);
  const index = (label: string): number => {
    const at = head.labels.indexOf(label);
    if (at >= 0) return at;
    throw new PlinthError(`the label "${label}" is none of the model's: ${head.labels.join(", ")}`, "correct the data");
  };
  const finish = (texts: readonly (LabelledText & { isCut: boolean })[], layout: TargetLayout): LabelledData => ({
    texts: texts.map(({ ids, types, target }) => ({ ids, target, ...(types === undefined ? {} : { types }) })),
    layout,
    pad,
    cut: texts.filter(({ isCut }) => isCut).length,
  });
  switch (head.kind) {
    case "sequence-classification": {
      const own = records as readonly TextRecord[];
      const target = ({ label }: TextRecord): number[] => {
        if (typeof label === "number") return [label];
        if (typeof label === "string") return [index(label)];
        const chosen = new Set(label.map(index));
        return head.labels.map((_, i) => (chosen.has(i) ? 1 : 0));
      };
      const encoded = await encodePairs(tokenizer, own, { context, closed });
      const texts = encoded.map((row, i) => ({ ...row, target: target(own[i] as TextRecord) }));
      const isClass = head.problem === "single_label_classification";
      return finish(texts, isClass ? { kind: "class" } : { kind: "values", count: head.labels.length });
    }
    case "token-classification":
      return finish(await encodeWords(records as readonly WordsRecord[], tokenizer, context, index), { kind: "token" });
    case "question-answering":
      return finish(await encodeQuestions(records as readonly QuestionRecord[], tokenizer, context), { kind: "span" });
    case "none": {
      const own = records as readonly SimilarRecord[];
      const rows = own.flatMap(({ text, positive, negative }) => [
        text,
        positive,
        ...(negative === undefined ? [] : [negative]),
      ]);
      const encoded = await encodePairs(
        tokenizer,
        rows.map((text) => ({ text })),
        { context },
      );
      return finish(
        encoded.map((row) => ({ ...row, target: [0] })),
        { kind: "class" },
      );
    }
    default:
      throw new PlinthError(`labelled records are not what the head "${head.kind}" learns from`, "choose another head");
  }
}

/** The label of a word goes to its first token. */
async function encodeWords(
  records: readonly WordsRecord[],
  tokenizer: Tokenizer,
  context: number,
  index: (label: string) => number,
) {
  const tokens = pairTokens(tokenizer);
  const isByteLevel = JSON.stringify(tokenizer.json.pre_tokenizer ?? null).includes('"ByteLevel"');
  return Promise.all(
    records.map(async ({ tokens: words, labels }) => {
      const spoken = words.map((word, i) => (isByteLevel && i > 0 ? ` ${word}` : word));
      const pieces = await tokenizer.encodeBatch(spoken, { literal: true });
      const row = joinPair(
        pieces.flatMap((piece) => [...piece]),
        undefined,
        tokens,
        context,
      );
      const target = new Int32Array(row.ids.length).fill(ignoreIndex);
      let at = tokens.begin.length;
      for (const [i, piece] of pieces.entries()) {
        if (piece.length > 0 && at < row.ids.length - tokens.end.length) target[at] = index(labels[i] as string);
        at += piece.length;
      }
      return { ...row, target };
    }),
  );
}

/** The answer's first and last token in `begin question end context end`; the first token of all where it is cut off or there is none. */
async function encodeQuestions(records: readonly QuestionRecord[], tokenizer: Tokenizer, context: number) {
  const tokens = pairTokens(tokenizer, { pairs: true });
  return Promise.all(
    records.map(async ({ question, context: passage, answers }) => {
      const asked = await tokenizer.encode(question, { literal: true });
      const { ids, offsets } = await tokenizer.encodeWithOffsets(passage);
      const row = joinPair(asked, ids, tokens, context);
      const first = row.types.indexOf(1);
      const last = row.ids.length - tokens.end.length;
      const answer = answers[0];
      if (answer === undefined || first < 0) return { ...row, target: [0, 0] };
      const [from, to] = [answer.start, answer.start + answer.text.length];
      const inside = offsets.flatMap(([a, b], i) => (b > from && a < to && b > a ? [first + i] : []));
      const [begin, end] = [inside[0] ?? 0, inside.at(-1) ?? 0];
      return { ...row, target: begin > 0 && end < last ? [begin, end] : [0, 0] };
    }),
  );
}
