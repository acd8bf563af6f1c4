import { readFile } from "node:fs/promises";
import { explainReadError, PlinthError } from "../base/index.ts";
import type { ChatMessage, TokenDocument, Tokenizer } from "../data/index.ts";
import { HostRandom } from "../engine/index.ts";

/** What became of the records of a file. */
export interface InstructionReport {
  readonly records: number;
  /** Longer than the context: cut at its end, so that the end of the answer (and its stop token) is missing. */
  readonly truncated: number;
  /** Left out: nothing to learn was left within the context. */
  readonly dropped: number;
}

export interface InstructionData {
  readonly documents: readonly TokenDocument[];
  readonly report: InstructionReport;
}

export interface InstructionOptions {
  /** Tokens that fit a row; longer records are cut, and counted. `text` records are cut into rows instead. */
  readonly context: number;
  /** What `readInstructions` calls the records in messages. */
  readonly name?: string;
}

/** A record of instruction data: a conversation, a prompt with its completion, or plain text to learn whole. */
export type Instruction =
  | { readonly messages: readonly ChatMessage[] }
  | { readonly prompt: string; readonly completion: string }
  | { readonly text: string };

/** Reads a JSONL file of instructions. Throws PlinthError naming the line that is none. */
export async function readInstructions(path: string): Promise<Instruction[]> {
  const content = await readFile(path, "utf8").catch((error: unknown) => {
    throw explainReadError(error, path);
  });
  const records: Instruction[] = [];
  for (const [i, line] of content.split("\n").entries()) {
    if (line.trim() === "") continue;
    let json: unknown;
    try {
      json = JSON.parse(line);
    } catch (error) {
      throw new PlinthError(
        `${path}:${i + 1}: not valid JSON (${(error as Error).message})`,
        "put one record on a line",
      );
    }
    records.push(checkInstruction(json, `${path}:${i + 1}`));
  }
  if (records.length === 0) throw new PlinthError(`${path}: no records`, "put one JSON record on each line");
  return records;
}

/** Throws PlinthError when a value is no instruction. Other fields of a record are left alone. */
export function checkInstruction(json: unknown, where: string): Instruction {
  const record = (typeof json === "object" && json !== null ? json : {}) as Record<string, unknown>;
  const { messages, prompt, completion, text } = record;
  if (Array.isArray(messages)) {
    const bad = messages.findIndex(
      (m: Record<string, unknown> | null) => typeof m?.role !== "string" || typeof m.content !== "string",
    );
    if (bad >= 0) {
      throw new PlinthError(
        `${where}: message ${bad + 1} has no role and content`,
        'write {"role": "user", "content": "..."}',
      );
    }
    if (!messages.some((m: ChatMessage) => m.role === "assistant")) {
      throw new PlinthError(`${where}: no message of the assistant, so there is nothing to learn`, "add its answer");
    }
    return { messages: messages as ChatMessage[] };
  }
  if (typeof prompt === "string" && typeof completion === "string") return { prompt, completion };
  if (typeof text === "string" && prompt === undefined && completion === undefined) return { text };
  throw new PlinthError(
    `${where}: expected "messages", "prompt" and "completion" (texts), or "text", got ${describe(record)}`,
    "rename the fields of the record",
  );
}

/**
 * Instructions as token documents whose targets are what the assistant says and the token that ends it. `messages` go
 * through the tokenizer's chat template. `prompt` and `completion` are encoded apart, so the prompt has the same ids
 * alone when generating, with the end-of-text token after. `text` is learned whole.
 */
export async function encodeInstructions(
  records: readonly Instruction[],
  tokenizer: Tokenizer,
  { context, name = "record" }: InstructionOptions,
): Promise<InstructionData> {
  const documents: TokenDocument[] = [];
  let [truncated, dropped] = [0, 0];
  for (const [i, record] of records.entries()) {
    const { ids, lossMask } = await encodeInstruction(record, tokenizer, `${name} ${i + 1}`);
    // A row of `context` inputs has one more token: the target of the last.
    const isCut = lossMask !== undefined && ids.length > context + 1;
    const document = isCut
      ? { ids: ids.slice(0, context + 1), lossMask: lossMask.slice(0, context + 1) }
      : { ids, lossMask };
    // The first token is predicted from nothing, so it is no target.
    if (document.lossMask !== undefined && !document.lossMask.subarray(1).includes(1)) {
      dropped++;
      continue;
    }
    if (isCut) truncated++;
    documents.push(document.lossMask === undefined ? { ids } : { ids: document.ids, lossMask: document.lossMask });
  }
  if (documents.length === 0) {
    throw new PlinthError(
      `no ${name} has an answer that begins within the context of ${context} tokens`,
      "shorten the prompts, or use a model with a longer context",
    );
  }
  return { documents, report: { records: records.length, truncated, dropped } };
}

async function encodeInstruction(
  record: Instruction,
  tokenizer: Tokenizer,
  where: string,
): Promise<{ ids: Int32Array; lossMask: Uint8Array | undefined }> {
  if ("messages" in record) {
    try {
      return await tokenizer.applyChatTemplate(record.messages);
    } catch (error) {
      if (error instanceof PlinthError)
        throw new PlinthError(`${where}: ${error.message}`, undefined, { cause: error });
      throw error;
    }
  }
  const { bosId, eosId } = tokenizer;
  const begin = bosId === undefined ? [] : [bosId];
  const end = eosId === undefined ? [] : [eosId];
  if ("text" in record) {
    const text = await tokenizer.encode(record.text, { literal: true });
    return { ids: Int32Array.from([...begin, ...text, ...end]), lossMask: undefined };
  }
  // Encoded as `generate` encodes a prompt: with what the tokenizer itself puts before a text, and nothing after.
  const encoded = await tokenizer.encode(record.prompt, { addSpecialTokens: true });
  const prompt = encoded.length > 0 && encoded.at(-1) === eosId && eosId !== bosId ? encoded.subarray(0, -1) : encoded;
  const completion = await tokenizer.encode(record.completion);
  const ids = Int32Array.from([...prompt, ...completion, ...end]);
  return { ids, lossMask: new Uint8Array(ids.length).fill(1, prompt.length) };
}

/** Sets a share of items aside: at least one, never all; the same ones for the same seed. Order is kept. */
export function holdOut<T>(items: readonly T[], share: number, seed: number): { train: T[]; heldOut: T[] } {
  const count =
    share <= 0 || items.length < 2 ? 0 : Math.min(items.length - 1, Math.max(1, Math.round(share * items.length)));
  const order = new HostRandom(seed).shuffle(Array.from(items.keys()));
  const chosen = new Set(order.slice(0, count));
  return { train: items.filter((_, i) => !chosen.has(i)), heldOut: items.filter((_, i) => chosen.has(i)) };
}

function describe(record: Record<string, unknown>): string {
  const keys = Object.keys(record);
  return keys.length === 0 ? "no fields" : keys.map((key) => `"${key}"`).join(", ");
}
