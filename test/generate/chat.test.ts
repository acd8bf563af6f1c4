import assert from "node:assert/strict";
import { test } from "node:test";
import { trainBpe } from "../../src/data/index.ts";
import { chatPrompt } from "../../src/generate/index.ts";
import type { Model } from "../../src/models/index.ts";
import { tinyModel } from "./support.ts";

/** A random model that talks ChatML, with a context of 120 tokens. */
async function chatModel(): Promise<Model> {
  const specialTokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
  const tokenizer = await trainBpe(["user assistant system"], { vocabSize: 262, specialTokens });
  return { ...tinyModel("llama", { vocabSize: tokenizer.vocabSize, contextLength: 120 }), tokenizer };
}

test("a conversation is rendered by the template and ends with the assistant's turn begun", async () => {
  const model = await chatModel();
  const { prompt, eosIds, dropped } = await chatPrompt(model, [{ role: "user", content: "hi" }], { maxTokens: 20 });
  const text = await model.tokenizer?.decode(prompt);
  assert.equal(text, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
  assert.equal(dropped, 0);
  const ends = ["<|endoftext|>", "<|im_end|>"].map((token) => model.tokenizer?.specialTokens.get(token));
  for (const id of ends) assert.ok(eosIds.includes(id as number), "both the text's and the turn's end stop the answer");
});

test("turns that do not fit are left out, oldest first, with their answers; never the system's", async () => {
  const model = await chatModel();
  const messages = [
    { role: "system", content: "short" },
    { role: "user", content: "first question" },
    { role: "assistant", content: "first answer" },
    { role: "user", content: "second" },
  ];
  const { prompt, dropped } = await chatPrompt(model, messages, { maxTokens: 60 });
  assert.equal(dropped, 2);
  const text = (await model.tokenizer?.decode(prompt)) ?? "";
  assert.ok(text.includes("short") && text.includes("second") && !text.includes("first"), text);
  await assert.rejects(chatPrompt(model, [{ role: "user", content: "x".repeat(200) }], { maxTokens: 500 }), {
    name: "PlinthError",
    message:
      /the message has \d+ tokens with the chat template.*context of 120 leaves 60.*Fix: write a shorter message/,
  });
});
