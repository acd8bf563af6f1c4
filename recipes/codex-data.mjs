// Prompts and completions for the second stage of recipes/codex.yaml from MBPP's training problems (601 to 974):
//     node recipes/codex-data.mjs mbpp.jsonl > data/mbpp-train.jsonl
// A prompt is the program up to the signature of the function that is tested, with the problem as its docstring, as
// HumanEval has it; the completion is the rest. Problems whose program does not end with that function are left out.
import { readFileSync } from "node:fs";

for (const line of readFileSync(process.argv[2], "utf8").split("\n")) {
  if (line.trim() === "") continue;
  const { task_id: id, text, code, test_list: tests } = JSON.parse(line);
  if (id < 601 || id > 974) continue;
  const program = code.replaceAll("\r\n", "\n").replaceAll("\t", "    ").trimEnd();
  const name = /assert\s+(?:\w+\()*?(\w+)\s*\(/.exec(tests[0])?.[1];
  const match = new RegExp(`^([^]*^def ${name} *\\([^\\n]*:[ ]*\\n)([^]*)$`, "m").exec(program);
  if (match === null || /^\S/m.test(match[2])) continue;
  const indent = /^[ ]*/.exec(match[2])[0];
  const prompt = `${match[1]}${indent}""" ${text.trim()}\n${indent}>>> ${tests[0].replace(/^assert\s+/, "")}\n${indent}True\n${indent}"""\n`;
  process.stdout.write(`${JSON.stringify({ prompt, completion: `${match[2]}\n` })}\n`);
}
