import type { HostRandom } from "../../engine/index.ts";
import { defineSkill } from "./skill.ts";

export const addition = defineSkill({
  name: "addition",
  summary: "the sum of two numbers",
  difficulty: "two numbers of n digits",
  make(difficulty, random) {
    const [a, b] = [number(difficulty, random), number(difficulty, random)];
    return { prompt: `add ${a}+${b} >`, answer: `${a + b}` };
  },
});

/** Of exactly so many digits; bigints, since difficulties have no end. */
function number(digits: number, random: HostRandom): bigint {
  const first = digits === 1 ? random.int(10) : 1 + random.int(9);
  const rest = Array.from({ length: digits - 1 }, () => random.int(10)).join("");
  return BigInt(`${first}${rest}`);
}
