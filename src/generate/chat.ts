import { PlinthError } from "../base/index.ts";
import type { ChatMessage, Tokenizer } from "../data/index.ts";
import type { Model } from "../models/index.ts";
import { modelEosIds } from "./prompts.ts";

/** A conversation as a prompt for the assistant's next turn. */
export interface ChatPrompt {
  readonly prompt: number[];
  /** What ends the turn: the model's own end tokens, and the one that its chat template puts after an answer. */
  readonly eosIds: readonly number[];
  /** Messages that had to be left out, oldest first, to leave room for an answer in the context. */
  readonly dropped: number;
}

/**
 * Renders messages by the model's chat template. When they do not fit, the oldest are left out (never a system message
 * that comes first, nor the last message). Throws PlinthError when the model has no template, or the last message alone
 * is too long.
 */
export async function chatPrompt(
  model: Model,
  messages: readonly ChatMessage[],
  { maxTokens }: { maxTokens: number },
): Promise<ChatPrompt> {
  const { tokenizer } = model;
  if (tokenizer === undefined) {
    throw new PlinthError(
      "the model has no tokenizer.json, and a chat needs one",
      "put tokenizer.json into the model's folder",
    );
  }
  const eosIds = new Set([...modelEosIds(model), ...(await turnEndIds(tokenizer))]);
  const system = messages[0]?.role === "system" ? messages.slice(0, 1) : [];
  const turns = messages.slice(system.length);
  const room = promptRoom(model, maxTokens);
  for (let dropped = 0; ; dropped++) {
    // a conversation begins with a user's turn: what answered a dropped message goes with it
    if (dropped > 0 && dropped < turns.length - 1 && turns[dropped]?.role === "assistant") continue;
    const kept = [...system, ...turns.slice(dropped)];
    const { ids } = await tokenizer.applyChatTemplate(kept, { addGenerationPrompt: true });
    if (ids.length <= room) return { prompt: [...ids], eosIds: [...eosIds], dropped };
    if (dropped >= turns.length - 1) {
      throw new PlinthError(
        `the message has ${ids.length} tokens with the chat template, and the model's context of ${model.config.contextLength} leaves ${room}`,
        "write a shorter message, or ask for fewer tokens with --max-tokens",
      );
    }
  }
}

/** Tokens that a prompt may have so that `maxTokens`, but at most half of the context, are left for what follows. */
export function promptRoom({ config: { contextLength } }: Model, maxTokens: number): number {
  return contextLength - Math.min(maxTokens, Math.floor(contextLength / 2));
}

/** The special token after an assistant's words, found by rendering an answer. */
async function turnEndIds(tokenizer: Tokenizer): Promise<number[]> {
  const { ids, lossMask } = await tokenizer.applyChatTemplate([
    { role: "user", content: "a" },
    { role: "assistant", content: "b" },
  ]);
  const special = new Set(tokenizer.specialTokens.values());
  return [...ids].filter((id, i) => lossMask[i] === 1 && special.has(id)).slice(0, 1);
}
