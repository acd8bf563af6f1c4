import { defineSkill, randomText } from "./skill.ts";

export const copy = defineSkill({
  name: "copy",
  summary: "the same letters again",
  difficulty: "n letters",
  make(difficulty, random) {
    const text = randomText(random, difficulty, "abcdefghijkl");
    return { prompt: `copy ${text} >`, answer: text };
  },
});
