import { nearestName, PlinthError, sha256 } from "../../base/index.ts";
import { HostRandom } from "../../engine/index.ts";

/** A question and its answer. */
export interface SkillItem {
  readonly prompt: string;
  readonly answer: string;
}

/** Something that can be asked at any difficulty. One file in `skills/`, registered with {@link defineSkill}. */
export interface Skill {
  readonly name: string;
  readonly summary: string;
  /** What a difficulty of n means: `n letters`. */
  readonly difficulty: string;
  /** A question of difficulty 1 or more. Everything random comes from `random`. */
  make(difficulty: number, random: HostRandom): SkillItem;
}

const skills = new Map<string, Skill>();

/** Registers a skill. Throws when its name is taken. */
export function defineSkill(skill: Skill): Skill {
  if (skills.has(skill.name)) throw new Error(`defineSkill: "${skill.name}" is defined twice.`);
  skills.set(skill.name, skill);
  return skill;
}

/** All skills, in order of definition. */
export function allSkills(): readonly Skill[] {
  return [...skills.values()];
}

/** The skill called `name`. Throws PlinthError naming those there are. */
export function findSkill(name: string): Skill {
  const found = skills.get(name);
  if (found !== undefined) return found;
  const near = nearestName(name, skills.keys());
  throw new PlinthError(
    `skill "${name}" is not known`,
    near === undefined ? `use one of ${[...skills.keys()].join(", ")}` : `did you mean ${near}?`,
  );
}

/** Difficulties as a flag says them: `4`, `1-8`. Throws PlinthError. */
export function readDifficulties(text: string): number[] {
  const match = /^(\d+)(?:-(\d+))?$/.exec(text.trim());
  const low = Number(match?.[1] ?? 0);
  const high = Number(match?.[2] ?? low);
  if (low < 1 || high < low || high > 1000) {
    throw new PlinthError(`"${text}" is no difficulty`, "give a whole number from 1, or a range such as 1-8");
  }
  return Array.from({ length: high - low + 1 }, (_, i) => low + i);
}

/** A quarter of all questions is never trained on: which ones is said by their text alone. */
export type SkillSplit = "train" | "test";

export function splitOf({ prompt }: SkillItem): SkillSplit {
  return Number.parseInt(sha256(prompt).slice(0, 8), 16) % 4 === 0 ? "test" : "train";
}

/**
 * Distinct questions of one difficulty and one split; fewer than `count` where there are not so many. The same for the
 * same seed.
 */
export function makeItems(
  skill: Skill,
  difficulty: number,
  {
    count,
    seed = 0,
    split,
  }: { readonly count: number; readonly seed?: number | undefined; readonly split: SkillSplit },
): SkillItem[] {
  const random = new HostRandom(seed * 4096 + difficulty);
  const items = new Map<string, SkillItem>();
  for (let tries = 0; items.size < count && tries < 40 * count; tries++) {
    const item = skill.make(difficulty, random);
    if (splitOf(item) === split) items.set(item.prompt, item);
  }
  return [...items.values()];
}

/** `count` draws from an alphabet, joined. */
export function randomText(random: HostRandom, count: number, alphabet: string): string {
  return Array.from({ length: count }, () => alphabet[random.int(alphabet.length)]).join("");
}
