import { defineSkill } from "./skill.ts";

const symbols = "abcdefghijklmnopqrst";

export const classification = defineSkill({
  name: "classification",
  summary: "the class of a new word, from labelled words: its first letter decides, the second says nothing",
  difficulty: "n classes (10 at most) of two words each, their letters and labels new every time",
  make(difficulty, random) {
    const classes = Math.min(difficulty, 10);
    const letters = random.shuffle([...symbols]);
    const labels = random.shuffle([..."0123456789"]);
    const noise = (): string => symbols[random.int(symbols.length)] as string;
    const shown = Array.from({ length: 2 * classes }, (_, i) => i % classes);
    const examples = random.shuffle(shown).map((c) => `${letters[c]}${noise()}${labels[c]}`);
    const asked = random.int(classes);
    return { prompt: `class ${examples.join(" ")} ? ${letters[asked]}${noise()} >`, answer: labels[asked] as string };
  },
});
