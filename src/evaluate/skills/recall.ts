import { defineSkill } from "./skill.ts";

const keys = "abcdefghijklmnopqrstuvwxyz";

export const recall = defineSkill({
  name: "recall",
  summary: "the value of a key among pairs of keys and values",
  difficulty: "n pairs, 26 at most",
  make(difficulty, random) {
    const chosen = random.shuffle([...keys]).slice(0, difficulty);
    const pairs = chosen.map((key) => [key, `${random.int(10)}`] as const);
    const [key, value] = pairs[random.int(pairs.length)] as readonly [string, string];
    return { prompt: `recall ${pairs.map(([k, v]) => k + v).join(" ")} ? ${key} >`, answer: value };
  },
});
