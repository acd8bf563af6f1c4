import { nearestName, PlinthError } from "../base/index.ts";
import type { Tokenizer } from "../data/index.ts";
import type { RunOptions } from "../generate/index.ts";
import { type HeadKind, headOf, loadModel, type Model, withHead } from "../models/index.ts";

/** What a task gets: a model that suits it, and how to run it. */
export interface PipelineContext {
  readonly model: Model;
  readonly tokenizer: Tokenizer;
  readonly run: RunOptions;
}

/** One task. Each is a file in `tasks/` that calls {@link definePipeline}. */
export interface PipelineDefinition<Call> {
  /** Names it goes by; the first is its own. */
  readonly names: readonly string[];
  /** The head that the model must have; absent where the task chooses by itself. */
  readonly head?: HeadKind;
  /** Throws PlinthError where the model does not suit. */
  create(context: PipelineContext): Call;
}

const definitions: PipelineDefinition<unknown>[] = [];

/** Registers a task and returns it. Throws when one of its names is taken. */
export function definePipeline<Call>(definition: PipelineDefinition<Call>): PipelineDefinition<Call> {
  for (const name of definition.names) {
    if (definitions.some(({ names }) => names.includes(name))) {
      throw new Error(`definePipeline: "${name}" is defined twice.`);
    }
  }
  definitions.push(definition as PipelineDefinition<unknown>);
  return definition;
}

/** Names of all tasks, aliases included. */
export function pipelineNames(): readonly string[] {
  return definitions.flatMap(({ names }) => names);
}

/** The task of that name on a model, or on the folder of one. See `pipeline` of this folder's index for the types. */
export async function createPipeline(task: string, given: Model | string, run: RunOptions): Promise<unknown> {
  const definition = definitions.find(({ names }) => names.includes(task));
  if (definition === undefined) {
    const near = nearestName(task, pipelineNames());
    throw new PlinthError(
      `pipeline: the task "${task}" is not known${near === undefined ? "" : ` (did you mean "${near}"?)`}`,
      `use one of ${pipelineNames().join(", ")}`,
    );
  }
  const { head } = definition;
  const model = typeof given === "string" ? await openFolder(given, head) : given;
  if (head !== undefined && headOf(model.config).kind !== head) {
    throw new PlinthError(
      `pipeline ${task}: the model has the head ${headOf(model.config).kind}, not ${head}`,
      "load a model that was trained for the task, or train that head on this one",
    );
  }
  if (model.tokenizer === undefined) {
    throw new PlinthError(`pipeline ${task}: the model has no tokenizer`, "put its tokenizer.json into its folder");
  }
  return definition.create({ model, tokenizer: model.tokenizer, run });
}

/** Hidden states are under every head, and a pretraining head has that of its language model; others are not invented. */
async function openFolder(folder: string, head: HeadKind | undefined): Promise<Model> {
  const model = await loadModel(folder);
  const present = headOf(model.config).kind;
  return head === "none" || (head === "lm" && present === "pretraining") ? withHead(model, { head }) : model;
}
