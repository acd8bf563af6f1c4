import { headOf, type Model } from "../../models/index.ts";
import { causalLmData, causalLmHeldOut } from "./causal-lm.ts";
import { sequenceClassification, tokenClassification } from "./classification.ts";
import { contrastive } from "./contrastive.ts";
import { nextSentence } from "./next-sentence.ts";
import { type PreparedObjective, type PretrainingOptions, pretrainingObjective } from "./pretraining.ts";
import { questionAnswering } from "./question-answering.ts";

const losses = {
  "sequence-classification": sequenceClassification,
  "token-classification": tokenClassification,
  "question-answering": questionAnswering,
  "next-sentence": nextSentence,
  none: contrastive,
} as const;

/**
 * What a model learns from batches: what its head is for or, of the language-model heads, the objective of that name (default as the
 * model is). Throws PlinthError when the model or its tokenizer does not go with it.
 */
export function objectiveOf(model: Model, name: string | undefined, options: PretrainingOptions): PreparedObjective {
  const { family, config } = model;
  const { kind } = headOf(config);
  if (kind === "lm" || kind === "pretraining") return pretrainingObjective(name, family).prepare(model, options);
  return { loss: losses[kind](family, config, options), data: causalLmData, heldOut: causalLmHeldOut };
}
