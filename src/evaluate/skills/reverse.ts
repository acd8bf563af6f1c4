import { defineSkill, randomText } from "./skill.ts";

export const reverse = defineSkill({
  name: "reverse",
  summary: "the letters backwards",
  difficulty: "n letters",
  make(difficulty, random) {
    const text = randomText(random, difficulty, "abcdefghijkl");
    return { prompt: `reverse ${text} >`, answer: [...text].reverse().join("") };
  },
});
