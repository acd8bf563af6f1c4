import "./copy.ts";
import "./reverse.ts";
import "./addition.ts";
import "./brackets.ts";
import "./recall.ts";
import "./classification.ts";

export { trainingTexts } from "./mixture.ts";
export { allSkills, defineSkill, findSkill, makeItems, readDifficulties, type Skill, type SkillItem } from "./skill.ts";
