import { writeFileAtomic } from "../../base/index.ts";
import { allSkills, findSkill, readDifficulties, trainingTexts } from "../../evaluate/index.ts";
import type { Command } from "../command.ts";

export const command: Command = {
  name: "data skills",
  summary: "write questions of synthetic skills to train on, for plinth data build",
  example: "plinth data skills --difficulty 1-8 --count 100000 --out skills.jsonl",
  options: {
    skills: {
      type: "string",
      summary: `which, separated by commas (default all: ${allSkills()
        .map(({ name }) => name)
        .join(", ")})`,
    },
    difficulty: { type: "string", default: "1-8", summary: "a difficulty or a range of them" },
    count: { type: "integer", default: 100_000, summary: "questions; none of them is among those of the tasks" },
    "per-document": { type: "integer", default: 8, summary: "questions that stand in a document, a line each" },
    seed: { type: "integer", default: 0, summary: "seed of the questions" },
    out: { type: "string", required: true, summary: "file to write, ending in .jsonl" },
  },
  async run(args, io) {
    const names = args.string("skills")?.split(",") ?? [];
    const skills = names.length === 0 ? allSkills() : names.map((name) => findSkill(name.trim()));
    const difficulties = readDifficulties(args.string("difficulty") ?? "1-8");
    const count = args.number("count") ?? 100_000;
    const perDocument = Math.max(1, args.number("per-document") ?? 8);
    const out = args.required("out");
    const texts = [...trainingTexts({ skills, difficulties, count, seed: args.number("seed") ?? 0 })];
    const lines: string[] = [];
    for (let at = 0; at < texts.length; at += perDocument) {
      lines.push(JSON.stringify({ text: texts.slice(at, at + perDocument).join(""), licence: "CC0-1.0" }));
    }
    await writeFileAtomic(out, `${lines.join("\n")}\n`);
    io.print(`${out}: ${count} questions in ${lines.length} documents`);
    io.result({ out, questions: count, documents: lines.length, skills: skills.map(({ name }) => name), difficulties });
  },
};
