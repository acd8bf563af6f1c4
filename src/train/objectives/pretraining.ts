import { PlinthError } from "../../base/index.ts";
import type { Batch, BatchSource, Tokenizer } from "../../data/index.ts";
import type { Model, ModelFamily } from "../../models/index.ts";
import type { LossFunction, TrainBatch, TrainData } from "../types.ts";
import type { Assemble } from "./assemble.ts";

/** Choices that some objectives have. */
export interface PretrainingOptions {
  /** How parameters become the model's; default as they are. */
  readonly assemble?: Assemble | undefined;
  /** Activation checkpointing: less memory for about a third more work, the same bits. */
  readonly remat?: boolean | undefined;
  /** Of "mlm": hide whole words. */
  readonly wholeWords?: boolean | undefined;
  /** Seeds what an objective draws while it prepares batches; default 0. */
  readonly seed?: number | undefined;
}

/** An objective made for a model: what `train` needs of it. */
export interface PreparedObjective {
  readonly loss: LossFunction;
  data(source: BatchSource): TrainData;
  heldOut(batches: AsyncIterable<Batch>): () => AsyncIterable<TrainBatch>;
}

/** Something that a model can learn from text alone. Each is a file that calls {@link definePretraining}. */
export interface PretrainingObjective {
  readonly name: string;
  /** A few words for the command line. */
  readonly summary: string;
  /** The kind of model whose default it is. No two objectives share one. */
  readonly defaultOf?: NonNullable<ModelFamily["kind"]>;
  /** Throws PlinthError where the model or its tokenizer does not suit. */
  prepare(model: Model, options: PretrainingOptions): PreparedObjective;
}

const objectives = new Map<string, PretrainingObjective>();

/** Registers an objective and returns it. Throws when its name is taken. */
export function definePretraining(objective: PretrainingObjective): PretrainingObjective {
  if (objectives.has(objective.name)) throw new Error(`definePretraining: "${objective.name}" is defined twice.`);
  objectives.set(objective.name, objective);
  return objective;
}

/** All objectives, in order of definition. */
export function pretrainingObjectives(): readonly PretrainingObjective[] {
  return [...objectives.values()];
}

/** The objective of that name, or the default of the model's kind. Throws PlinthError naming those there are. */
export function pretrainingObjective(
  name: string | undefined,
  { kind = "decoder" }: ModelFamily,
): PretrainingObjective {
  const all = pretrainingObjectives();
  const found = all.find((objective) => (name === undefined ? objective.defaultOf === kind : objective.name === name));
  if (found !== undefined) return found;
  throw new PlinthError(
    name === undefined ? `no objective for a model of kind ${kind}` : `objective "${name}" is not known`,
    `use one of ${all.map((objective) => objective.name).join(", ")}`,
  );
}

/** The model's tokenizer. Throws PlinthError, naming the objective, where it has none. */
export function requiredTokenizer({ tokenizer }: Model, objective: string): Tokenizer {
  if (tokenizer !== undefined) return tokenizer;
  throw new PlinthError(
    `objective ${objective}: the model has no tokenizer`,
    "put its tokenizer.json into the model's folder",
  );
}
