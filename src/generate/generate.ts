import type { Model } from "../models/index.ts";
import { bucketRows } from "./buckets.ts";
import { type Decoder, type DecoderState, decoderFor } from "./decoder.ts";
import type { GenerateEvent, GenerateOptions, Generation, Prompt, TokenEvent } from "./options.ts";
import { resolvePrompts } from "./prompts.ts";
import { hasText, Request } from "./request.ts";
import { scoreSequences } from "./score.ts";

/** Tokens of room the cache starts with; it grows when texts get longer than that. */
const firstRoom = 256;

/**
 * Continues prompts, all at once: an event per token as it comes, and one at the end of each text. A prompt's result
 * depends on the prompt, its options and its seed alone, not on what else is in the call.
 * Throws PlinthError when a prompt does not suit the model or an option is out of range.
 */
export async function* generate(
  model: Model,
  prompts: readonly Prompt[],
  options: GenerateOptions = {},
): AsyncGenerator<GenerateEvent, void, undefined> {
  const requests = (await resolvePrompts(model, prompts, options)).map((prompt) => new Request(model, prompt));
  const promptLogprobs = options.echo === true ? await scorePrompts(model, requests, options) : [];
  for (const [i, request] of requests.entries()) {
    if (options.echo === true) yield* echoEvents(model, request, promptLogprobs[i]);
    if (request.finishReason !== undefined) yield await request.end(promptLogprobs[i]);
  }

  let rows: (Request | undefined)[] = requests.filter((request) => request.finishReason === undefined);
  if (rows.length === 0) return;
  const decoder = decoderFor(model, options);
  const room = Math.min(firstRoom, Math.max(...rows.map((request) => request?.maxTokens ?? 0)));
  let { state, logits } = await decoder.prefill(
    rows.map((request) => (request as Request).prompt.ids),
    room,
  );
  for (;;) {
    const aborted = options.signal?.aborted === true;
    for (const [row, request] of rows.entries()) {
      if (request === undefined) continue;
      if (aborted) request.finishReason = "aborted";
      else yield await request.advance(logits[row] as Float32Array);
      if (request.finishReason === undefined) continue;
      yield await request.end(promptLogprobs[request.prompt.index]);
      rows[row] = undefined;
    }
    const active = rows.filter((request) => request !== undefined);
    if (active.length === 0) return;
    ({ rows, state } = await dropFinished(decoder, rows, state));
    ({ state, logits } = await decoder.step(
      state,
      Int32Array.from(rows, (request) => request?.lastToken ?? 0),
      Int32Array.from(rows, (request) => request?.position ?? 0),
    ));
  }
}

/** Continues one prompt and gives the finished text. */
export async function generateText(model: Model, prompt: Prompt, options: GenerateOptions = {}): Promise<Generation> {
  return (await generateAll(model, [prompt], options))[0] as Generation;
}

/** Continues prompts and gives the finished texts, in the order of the prompts. */
export async function generateAll(
  model: Model,
  prompts: readonly Prompt[],
  options: GenerateOptions = {},
): Promise<Generation[]> {
  const results = new Array<Generation>(prompts.length);
  for await (const event of generate(model, prompts, options)) {
    if (event.type === "end") results[event.index] = event.result;
  }
  return results;
}

/** Leaves finished rows behind once they are at least half of the batch; sizes are powers of two to share programs. */
async function dropFinished(decoder: Decoder, rows: (Request | undefined)[], state: DecoderState) {
  const active = rows.flatMap((request, row) => (request === undefined ? [] : [row]));
  const size = bucketRows(active.length, rows.length);
  if (size > rows.length / 2) return { rows, state };
  const kept = Array.from({ length: size }, (_, i) => active[i] ?? (active[0] as number));
  return {
    rows: kept.map((row, i) => (i < active.length ? rows[row] : undefined)),
    state: await decoder.select(state, kept),
  };
}

async function scorePrompts(model: Model, requests: readonly Request[], options: GenerateOptions) {
  if (options.logprobs === undefined) return [];
  const scored = await scoreSequences(
    model,
    requests.map(({ prompt: { ids } }) => ({ tokens: ids.subarray(0, -1), targets: ids.subarray(1) })),
    options,
  );
  return scored.map(({ logprobs }) => [null, ...logprobs]);
}

async function* echoEvents(
  model: Model,
  { prompt: { ids, index } }: Request,
  logprobs: readonly (number | null)[] | undefined,
): AsyncGenerator<TokenEvent> {
  const stream = model.tokenizer?.streamDecoder();
  for (const [i, id] of ids.entries()) {
    const piece = hasText(model, id) ? await stream?.push(id) : undefined;
    const rest = i === ids.length - 1 ? await stream?.flush() : undefined;
    const text = (piece ?? "") + (rest ?? "");
    const logprob = logprobs?.[i];
    yield { type: "token", index, id, text, isPrompt: true, ...(typeof logprob === "number" ? { logprob } : {}) };
  }
}
