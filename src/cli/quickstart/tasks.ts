/**
 * The two tasks of the quickstart. Both are made from any text by themselves (no labels needed), differ from plain
 * continuation, and have an answer that can be scored in bits per byte.
 */
export interface QuickstartTask {
  readonly name: string;
  readonly summary: string;
  /** Examples of one document, in order; none when the text does not suit. */
  readonly examples: (text: string) => Example[];
}

export interface Example {
  readonly prompt: string;
  readonly completion: string;
}

/** At most this many examples per document, so that a few long documents do not make up a task. */
const examplesPerDocument = 6;
const minLineLength = 24;
const maxLineLength = 120;

/** Lower-cased words without punctuation in, the original line out. */
const restore: QuickstartTask = {
  name: "restore",
  summary: "put back the case, punctuation and spacing of a line",
  examples: (text) =>
    sampleLines(text)
      .map((line) => ({ plain: wordsOf(line).join(" ").toLowerCase(), line }))
      .filter(({ plain, line }) => plain.length >= line.length / 2)
      .map(({ plain, line }) => ({ prompt: `plain: ${plain}\nrestored:`, completion: ` ${line}\n` })),
};

/** A line in, its distinct words in alphabetical order out. */
const words: QuickstartTask = {
  name: "words",
  summary: "list the distinct words of a line in alphabetical order",
  examples: (text) =>
    sampleLines(text)
      .map((line) => ({ line, sorted: [...new Set(wordsOf(line).map((word) => word.toLowerCase()))].sort() }))
      .filter(({ sorted }) => sorted.length >= 3)
      .map(({ line, sorted }) => ({ prompt: `line: ${line}\nwords:`, completion: ` ${sorted.join(", ")}\n` })),
};

export const quickstartTasks: readonly QuickstartTask[] = [restore, words];

function wordsOf(line: string): string[] {
  return line.match(/[\p{L}\p{N}]+/gu) ?? [];
}

/** Lines of a useful length with some words in them, spread evenly over the document; long lines are cut at a space. */
function sampleLines(text: string): string[] {
  const lines = text
    .split("\n")
    .map((line) => cutAtSpace(line.trim(), maxLineLength))
    .filter((line) => line.length >= minLineLength && wordsOf(line).length >= 4);
  const step = Math.max(1, Math.floor(lines.length / examplesPerDocument));
  return lines.filter((_, i) => i % step === 0).slice(0, examplesPerDocument);
}

function cutAtSpace(line: string, length: number): string {
  if (line.length <= length) return line;
  const at = line.lastIndexOf(" ", length);
  return line.slice(0, at > 0 ? at : length);
}
