import { HostRandom } from "../../engine/index.ts";
import { type Skill, splitOf } from "./skill.ts";

export interface MixtureOptions {
  readonly skills: readonly Skill[];
  /** Drawn evenly. */
  readonly difficulties: readonly number[];
  readonly count: number;
  readonly seed: number;
}

/**
 * Questions with their answers to train on, a line each: skills and difficulties drawn evenly, none of them from the test
 * split. The same for the same seed.
 */
export function* trainingTexts({ skills, difficulties, count, seed }: MixtureOptions): Generator<string> {
  const random = new HostRandom(seed);
  for (let made = 0; made < count; ) {
    const skill = skills[random.int(skills.length)] as Skill;
    const item = skill.make(difficulties[random.int(difficulties.length)] as number, random);
    if (splitOf(item) === "test") continue;
    made++;
    yield `${item.prompt}${item.answer}\n`;
  }
}
