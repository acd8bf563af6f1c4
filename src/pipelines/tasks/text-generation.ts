import { PlinthError } from "../../base/index.ts";
import type { ChatMessage } from "../../data/index.ts";
import { type GenerateOptions, generateText } from "../../generate/index.ts";
import { expectDecoder } from "../../models/index.ts";
import { definePipeline, type PipelineContext } from "../pipeline.ts";

export interface GeneratedText {
  readonly generatedText: string;
}

export interface TextGenerationOptions extends GenerateOptions {
  /** Give the prompt too, followed by what was written; default true, as of a text; a chat's answer stands alone. */
  readonly returnFullText?: boolean;
}

/** Continues a text, or answers the last message of a chat. */
export type TextGeneration = (
  prompt: string | readonly ChatMessage[],
  options?: TextGenerationOptions,
) => Promise<GeneratedText[]>;

definePipeline<TextGeneration>({
  names: ["text-generation"],
  create({ model, tokenizer, run }) {
    expectDecoder(model.family, "pipeline text-generation", model.config);
    return async (prompt, { returnFullText, ...options } = {}) => {
      if (typeof prompt === "string") {
        const { text } = await generateText(model, prompt, { ...run, ...options });
        return [{ generatedText: (returnFullText ?? true) ? prompt + text : text }];
      }
      const { ids } = await tokenizer.applyChatTemplate(prompt, { addGenerationPrompt: true });
      const { text } = await generateText(model, ids, { ...run, ...options });
      return [{ generatedText: text }];
    };
  },
});

/** Writes a text about a text: an answer, a summary, a translation. */
export type Text2TextGeneration = (text: string, options?: Text2TextOptions) => Promise<GeneratedText[]>;

export interface Text2TextOptions extends GenerateOptions {
  /** Put in front of the text, for models that were taught several tasks by prefixes (T5's "summarize: "). */
  readonly prefix?: string;
}

definePipeline<Text2TextGeneration>({ names: ["text2text-generation"], create: (context) => answering(context, "") });
definePipeline<Text2TextGeneration>({
  names: ["summarization"],
  create: (context) => answering(context, prefixOf(context, "summarization")),
});
definePipeline<Text2TextGeneration>({
  names: ["translation"],
  create: (context) => answering(context, ""),
});

function answering({ model, run }: PipelineContext, ownPrefix: string): Text2TextGeneration {
  if (model.family.kind !== "encoder-decoder") {
    throw new PlinthError(
      `pipeline: ${model.family.modelType} does not read a text and write another`,
      "use an encoder-decoder such as t5, or the task text-generation",
    );
  }
  return async (text, { prefix = ownPrefix, ...options } = {}) => {
    const { text: generatedText } = await generateText(model, prefix + text, { ...run, ...options });
    return [{ generatedText }];
  };
}

/** The prefix that config.json has for a task (`task_specific_params`). */
function prefixOf({ model }: PipelineContext, task: string): string {
  const tasks = model.config.inert.task_specific_params as Record<string, { prefix?: unknown }> | null | undefined;
  const prefix = tasks?.[task]?.prefix;
  return typeof prefix === "string" ? prefix : "";
}
