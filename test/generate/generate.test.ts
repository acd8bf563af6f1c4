import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type GenerateEvent,
  type GenerateOptions,
  generate,
  generateAll,
  generateText,
  type Prompt,
  scoreSequences,
} from "../../src/generate/index.ts";
import { Request } from "../../src/generate/request.ts";
import type { Model } from "../../src/models/index.ts";
import { skipWithout } from "../assets.ts";
import { reference as backend, stories, storiesModel, tinyModel } from "./support.ts";

const skip = skipWithout(stories);

async function events(model: Model, prompts: readonly Prompt[], options: GenerateOptions): Promise<GenerateEvent[]> {
  const all: GenerateEvent[] = [];
  for await (const event of generate(model, prompts, { backend, ...options })) all.push(event);
  return all;
}

test("the streamed pieces are the text, and a stop string never shows", { skip }, async () => {
  const model = await storiesModel();
  const options = { temperature: 0, maxTokens: 60, stop: ["She loved", "park"] };
  const all = await events(model, ["Once upon a time"], options);
  const end = all.at(-1);
  assert.equal(end?.type, "end");
  assert.equal(end?.type === "end" && end.result.finishReason, "stop");
  const text = ", there was a little girl named Lily. ";
  assert.equal(end?.type === "end" && end.result.text, text);
  assert.equal(all.map((event) => event.text).join(""), text);
  const tokens = all.filter((event) => event.type === "token");
  assert.deepEqual(
    end?.type === "end" && end.result.tokens,
    tokens.map((event) => event.id),
  );
});

test("characters of several tokens come whole, broken ones as U+FFFD at the end", { skip }, async () => {
  const model = await storiesModel();
  const byte = (value: number): number => {
    const id = model.tokenizer?.tokenToId(`<0x${value.toString(16).toUpperCase().padStart(2, "0")}>`);
    return id ?? assert.fail(`no token for byte ${value}`);
  };
  const request = new Request(model, { index: 0, text: "a", ids: Int32Array.of(1, 261), options: { temperature: 0 } });
  const say = async (id: number): Promise<string> => {
    const logits = new Float32Array(model.config.vocabSize);
    logits[id] = 9;
    return (await request.advance(logits)).text;
  };
  const pieces: string[] = [];
  for (const value of Buffer.from("é€😀")) pieces.push(await say(byte(value)));
  assert.deepEqual(pieces, ["", "é", "", "", "€", "", "", "", "😀"]);
  const word = await say(261);
  assert.equal(await say(byte(0xe2)), "");
  const end = await request.end();
  assert.equal(end.text, "\ufffd");
  assert.equal(end.result.text, `é€😀${word}\ufffd`);
});

test("the same seed samples the same, whatever else is in the batch; another seed does not", async () => {
  const model = tinyModel("llama");
  const options = { backend, maxTokens: 12, eosIds: [], temperature: 1.2, topK: 20 };
  const alone = await generateText(model, [1, 2], { ...options, seed: 5 });
  const batch = await generateAll(model, [[9, 9, 9], { prompt: [1, 2], seed: 5 }, { prompt: [1, 2], seed: 6 }], {
    ...options,
    seed: 4,
  });
  assert.deepEqual(batch[1]?.tokens, alone.tokens);
  assert.notDeepEqual(batch[2]?.tokens, alone.tokens);
  const unseeded = await generateText(model, [1, 2], options);
  const again = await generateText(model, [1, 2], { ...options, seed: unseeded.seed });
  assert.deepEqual(again.tokens, unseeded.tokens, "the seed reported repeats an unseeded run");
});

test("every way to end", async () => {
  const model = tinyModel("gpt2");
  const greedy = { backend, temperature: 0 };
  const { tokens } = await generateText(model, [3], { ...greedy, maxTokens: 6, eosIds: [] });
  const eos = await generateText(model, [3], { ...greedy, maxTokens: 6, eosIds: [tokens[2] as number] });
  assert.equal(eos.finishReason, "eos");
  assert.deepEqual(eos.tokens, tokens.slice(0, tokens.indexOf(tokens[2] as number) + 1));
  const none = await generateText(model, [3], { ...greedy, maxTokens: 0 });
  assert.deepEqual([none.finishReason, none.tokens, none.text], ["length", [], ""]);
  // 40 places: 38 for the prompt leave 2, and a last token that needs none
  const prompt = Array.from({ length: 38 }, (_, i) => i % 37);
  const full = await generateText(model, prompt, { ...greedy, eosIds: [] });
  assert.deepEqual([full.finishReason, full.tokens.length], ["length", 3]);
});

test("an aborted call ends every text with what it has", async () => {
  const model = tinyModel("llama");
  const abort = new AbortController();
  const ends: GenerateEvent[] = [];
  let tokens = 0;
  for await (const event of generate(model, [[1], [2, 3]], { backend, eosIds: [], signal: abort.signal })) {
    if (event.type === "end") ends.push(event);
    else if (++tokens === 4) abort.abort();
  }
  assert.deepEqual(
    ends.map((end) => end.type === "end" && [end.result.finishReason, end.result.tokens.length]),
    [
      ["aborted", 2],
      ["aborted", 2],
    ],
  );
});

test("log-probabilities are those of the model, also for an echoed prompt", async () => {
  const model = tinyModel("llama");
  const prompt = [3, 1, 4, 1, 5];
  const options = { backend, maxTokens: 6, eosIds: [], seed: 1, temperature: 2, logprobs: 3, echo: true };
  const all = await events(model, [prompt], options);
  const end = all.at(-1);
  if (end?.type !== "end") assert.fail();
  const { tokens, logprobs, topLogprobs, promptLogprobs } = end.result;
  const whole = Int32Array.from([...prompt, ...tokens]);
  const [score] = await scoreSequences(model, [{ tokens: whole.slice(0, -1), targets: whole.slice(1) }], { backend });
  const expected = [...(score?.logprobs ?? [])];
  const got = [...(promptLogprobs ?? []).slice(1), ...(logprobs ?? [])];
  assert.equal(promptLogprobs?.[0], null);
  assert.equal(got.length, expected.length);
  for (const [i, value] of expected.entries()) assert.ok(Math.abs(value - (got[i] ?? 9)) < 1e-5, `token ${i}`);
  for (const [i, top] of (topLogprobs ?? []).entries()) {
    assert.equal(top.length, 3);
    assert.ok((top[0]?.logprob ?? 0) >= (top[1]?.logprob ?? 0) && (top[1]?.logprob ?? 0) >= (top[2]?.logprob ?? 0));
    assert.ok((logprobs?.[i] ?? 0) <= (top[0]?.logprob ?? 0));
  }
  const echoed = all.filter((event) => event.type === "token" && event.isPrompt === true);
  assert.deepEqual(
    echoed.map((event) => event.type === "token" && event.id),
    prompt,
  );
});

test("an echoed text prompt begins the text", { skip }, async () => {
  const model = await storiesModel();
  const all = await events(model, ["Once upon a time"], { temperature: 0, maxTokens: 5, echo: true });
  const end = all.at(-1);
  assert.equal(end?.type === "end" && end.result.text, "Once upon a time, there was a little");
  assert.equal(all.map(({ text }) => text).join(""), "Once upon a time, there was a little");
});

test("an empty prompt starts from the beginning-of-text token", { skip }, async () => {
  const model = await storiesModel();
  const result = await generateText(model, "", { backend, temperature: 0, maxTokens: 4, addSpecialTokens: false });
  assert.deepEqual(result.promptTokens, [1]);
  assert.equal(result.text, "Once upon a time");
});

test("settings of generation_config.json hold where the call says nothing", async () => {
  const plain = tinyModel("llama");
  const model = {
    ...plain,
    generationConfig: { do_sample: true, temperature: 0.5, top_k: 3, eos_token_id: [7, 8], repetition_penalty: 1.5 },
  };
  const options = { backend, seed: 3, maxTokens: 15 };
  const expected = await generateText(plain, [1], {
    ...options,
    temperature: 0.5,
    topK: 3,
    eosIds: [7, 8],
    repetitionPenalty: 1.5,
  });
  assert.deepEqual((await generateText(model, [1], options)).tokens, expected.tokens);
  const other = await generateText(plain, [1], { ...options, temperature: 0 });
  const overridden = await generateText(model, [1], { ...options, temperature: 0, eosIds: [], repetitionPenalty: 1 });
  assert.deepEqual(overridden.tokens, other.tokens);
});

test("errors name the prompt or the option, and the fix", async () => {
  const model = tinyModel("gpt2");
  const fails = (prompts: readonly Prompt[], options: GenerateOptions, message: RegExp) =>
    assert.rejects(events(model, prompts, options), { name: "PlinthError", message });
  await fails(
    [[1], [2, 37]],
    {},
    /prompt 2: token id 37 at position 1 is outside the model's vocabulary of 37.*Fix: encode/,
  );
  await fails([[-1]], {}, /prompt 1: token id -1/);
  await fails([[1.5]], {}, /prompt 1: token id 1.5/);
  await fails([new Array(41).fill(1)], {}, /prompt 1 has 41 tokens, but the model's context is 40.*Fix: shorten/);
  await fails([[]], {}, /prompt 1 is empty.*Fix: give at least one word/);
  await fails(["text"], {}, /no tokenizer.json.*text prompt.*Fix: put tokenizer.json/);
  await fails([[1]], { stop: ["x"] }, /no tokenizer.json.*stop strings/);
  await fails([[1]], { stop: [""] }, /empty stop string/);
  await fails([[1]], { temperature: -1 }, /temperature is -1.*Fix: give a number from 0/);
  await fails([{ prompt: [1], topP: 0 }], {}, /topP is 0/);
  await fails([[1]], { topK: 0 }, /topK is 0/);
  await fails([[1]], { repetitionPenalty: 0 }, /repetitionPenalty is 0/);
  await fails([[1]], { maxTokens: 1.5 }, /maxTokens is 1.5/);
});
