// One JSONL of stories and encyclopaedia articles, the text of recipes/bert.yaml, gpt2.yaml, llama.yaml and palm.yaml:
//     node recipes/stories-data.mjs tinystories-lower.txt valid.txt test.txt > stories.jsonl
// The first file is TinyStories, in which a story begins on a line that no empty line is before; the others are WikiText-2, of which articles begin
// at their headings, and whose tokens (" @-@ ", " , ", "( ") become the text that they were.
import { readFileSync } from "node:fs";

const [stories, ...articles] = process.argv.slice(2).map((path) => readFileSync(path, "utf8"));

/** Quotation marks stand alone in WikiText: every other one opens. */
function detokenize(text) {
  let isOpen = false;
  const quoted = text.replace(/ " /g, () => {
    isOpen = !isOpen;
    return isOpen ? ' "' : '" ';
  });
  return quoted
    .replace(/ @([-,.])@ /g, "$1")
    .replace(/ ([.,;:!?)\]%'])/g, "$1")
    .replace(/([([$]) /g, "$1")
    .replace(/ n't/g, "n't")
    .trim();
}

const documents = [
  ...stories.split(/(?<!\n)\n(?!\n)/),
  ...articles.flatMap((text) => text.split(/\n(?= = [^=])/)).map((text) => text.split("\n").map(detokenize).join("\n")),
];
for (const text of documents) if (text.length > 200) process.stdout.write(`${JSON.stringify({ text: text.trim() })}\n`);
