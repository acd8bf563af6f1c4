import { z } from "zod";
import { PlinthError } from "../base/index.ts";

/** What stands on a model's trunk. `lm` predicts tokens (the next, or masked ones); `none` gives the hidden states. */
export const headKinds = [
  "lm",
  "pretraining",
  "next-sentence",
  "sequence-classification",
  "token-classification",
  "question-answering",
  "none",
] as const;
export type HeadKind = (typeof headKinds)[number];

/** What the logits of a sequence classifier mean, under the reference's names (`problem_type`). */
export const problems = ["single_label_classification", "multi_label_classification", "regression"] as const;
export type Problem = (typeof problems)[number];

/** The head of a model, part of its config. */
export interface HeadConfig {
  readonly kind: HeadKind;
  /** Names of what the logits stand for, of heads that classify; else empty. */
  readonly labels: readonly string[];
  /** Of `sequence-classification`. */
  readonly problem?: Problem;
}

/** The reference's class for every head that an architecture has; `architectures` of config.json names it. */
export type HeadClasses = Readonly<Partial<Record<HeadKind, string>>>;

const classifying: readonly HeadKind[] = ["sequence-classification", "token-classification"];

/** The head of a config; absent is the language-model head. */
export function headOf({ head }: { readonly head?: HeadConfig }): HeadConfig {
  return head ?? { kind: "lm", labels: [] };
}

/** A head. Throws PlinthError when it classifies and has no labels. `problem` defaults as in the reference: one label is regression. */
export function headConfig(kind: HeadKind, labels: readonly string[] = [], problem?: Problem): HeadConfig {
  if (!classifying.includes(kind)) return { kind, labels: [] };
  if (labels.length === 0) {
    throw new PlinthError(`head ${kind}: no labels`, "name what there is to tell apart, for example negative,positive");
  }
  if (kind !== "sequence-classification") return { kind, labels };
  return { kind, labels, problem: problem ?? (labels.length === 1 ? "regression" : "single_label_classification") };
}

/** The keys of config.json that a head is read from; part of the schema of a family with heads. */
export const headKeys = {
  architectures: z.array(z.string()).nullish(),
  id2label: z.record(z.string(), z.string()).nullish(),
  label2id: z.unknown().optional(),
  num_labels: z.int().positive().nullish(),
  problem_type: z.enum(problems).nullish(),
};

/** Values of {@link headKeys}. */
export interface HeadValues {
  readonly architectures?: readonly string[] | null | undefined;
  readonly id2label?: Readonly<Record<string, string>> | null | undefined;
  readonly num_labels?: number | null | undefined;
  readonly problem_type?: Problem | null | undefined;
}

/**
 * The head that config.json names by its class; the language-model head where it names none. Throws PlinthError naming a class
 * that is not implemented.
 */
export function parseHead(values: HeadValues, classes: HeadClasses): HeadConfig {
  const name = values.architectures?.[0];
  if (name === undefined) return headConfig("lm");
  const kind = headKinds.find((kind) => classes[kind] === name);
  if (kind === undefined) {
    throw new PlinthError(
      `config.json: architectures: ${name} is not implemented`,
      `use one of ${Object.values(classes).join(", ")}`,
    );
  }
  return headConfig(kind, parseLabels(values), values.problem_type ?? undefined);
}

/** Two labels where nothing is said, as in the reference. */
function parseLabels({ id2label, num_labels }: HeadValues): readonly string[] {
  if (id2label === null || id2label === undefined) {
    return Array.from({ length: num_labels ?? 2 }, (_, i) => `LABEL_${i}`);
  }
  const count = Object.keys(id2label).length;
  return Array.from({ length: count }, (_, i) => {
    const label = id2label[i];
    if (label !== undefined) return label;
    throw new PlinthError(`config.json: id2label has ${count} labels and none for ${i}`, "number them from 0");
  });
}

/** The reverse of {@link parseHead}. */
export function formatHead(config: { readonly head?: HeadConfig }, classes: HeadClasses): Record<string, unknown> {
  const { kind, labels, problem } = headOf(config);
  return {
    architectures: [classes[kind]],
    ...(labels.length === 0
      ? {}
      : {
          id2label: Object.fromEntries(labels.map((label, i) => [`${i}`, label])),
          label2id: Object.fromEntries(labels.map((label, i) => [label, i])),
        }),
    ...(problem === undefined ? {} : { problem_type: problem }),
  };
}
