import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { encodeInstructions, holdOut, type Instruction, readInstructions } from "../../src/adapt/index.ts";
import { packedBatches, Tokenizer, tokenDocuments, trainBpe } from "../../src/data/index.ts";

const chatMl =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}";

async function makeTokenizer(): Promise<Tokenizer> {
  const trained = await trainBpe(["hello world, what is the colour of the sky? blue."], {
    vocabSize: 270,
    specialTokens: ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
  });
  return Tokenizer.fromJson(trained.json, { ...trained.config, chat_template: chatMl });
}

async function spoken(tokenizer: Tokenizer, ids: ArrayLike<number>, mask: ArrayLike<number>): Promise<string> {
  return tokenizer.decode([...Array.from(ids)].filter((_, i) => mask[i] === 1));
}

async function encodeOne(tokenizer: Tokenizer, record: Instruction, context = 100) {
  const { documents, report } = await encodeInstructions([record], tokenizer, { context });
  return { document: documents[0] as (typeof documents)[0], report };
}

test("only what the assistant says is a target, its stop token included", async () => {
  const tokenizer = await makeTokenizer();
  const { document } = await encodeOne(tokenizer, {
    messages: [
      { role: "user", content: "what?" },
      { role: "assistant", content: "blue." },
      { role: "user", content: "hello" },
      { role: "assistant", content: "world" },
    ],
  });
  assert.equal(
    await tokenizer.decode(document.ids as Int32Array),
    "<|im_start|>user\nwhat?<|im_end|>\n<|im_start|>assistant\nblue.<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nworld<|im_end|>\n",
  );
  assert.equal(await spoken(tokenizer, document.ids, document.lossMask ?? []), "blue.<|im_end|>world<|im_end|>");
});

test("prompt and completion: the completion and the end of text are targets, and reach the batch as such", async () => {
  const tokenizer = await makeTokenizer();
  const record = { prompt: "the colour of the sky:", completion: " blue." };
  const { document, report } = await encodeOne(tokenizer, record);
  assert.deepEqual(report, { records: 1, truncated: 0, dropped: 0 });
  assert.equal(await spoken(tokenizer, document.ids, document.lossMask ?? []), " blue.<|endoftext|>");
  const prompt = await tokenizer.encode(record.prompt, { addSpecialTokens: true });
  assert.deepEqual([...Array.from(document.ids)].slice(0, prompt.length), [...prompt]);

  const batch = await packedBatches(tokenDocuments([document], tokenizer), { batchSize: 1, context: 64 }).next();
  const targets = [...batch.targets.data].filter((id) => id !== -100);
  assert.equal(await tokenizer.decode(targets), " blue.<|endoftext|>");
  assert.equal(batch.tokenCount, targets.length);
  assert.equal(batch.byteCount, " blue.".length);
});

test("plain text is learned whole, from its first token to the end of text", async () => {
  const tokenizer = await makeTokenizer();
  const { document } = await encodeOne(tokenizer, { text: "hello <|im_end|> world" });
  assert.equal(document.lossMask, undefined);
  const ids = Array.from(document.ids);
  assert.equal(ids.at(-1), tokenizer.eosId);
  // A special token written in a text does not become one.
  assert.ok(!ids.includes(tokenizer.specialTokens.get("<|im_end|>") as number));
});

test("records longer than the context are cut and counted; without an answer left they are dropped and counted", async () => {
  const tokenizer = await makeTokenizer();
  const long = "sky? ".repeat(40);
  const records: Instruction[] = [
    { prompt: "what?", completion: long },
    { prompt: long, completion: "blue." },
    { prompt: "what?", completion: "blue." },
  ];
  const { documents, report } = await encodeInstructions(records, tokenizer, { context: 32 });
  assert.deepEqual(report, { records: 3, truncated: 1, dropped: 1 });
  assert.deepEqual(
    documents.map(({ ids }) => ids.length > 33),
    [false, false],
  );
  assert.equal(documents[0]?.ids.length, 33);
  await assert.rejects(encodeInstructions([records[1] as Instruction], tokenizer, { context: 32, name: "line" }), {
    message:
      "no line has an answer that begins within the context of 32 tokens. Fix: shorten the prompts, or use a model with a longer context.",
  });
});

test("a file that is not instruction data is refused with the line", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "plinth-instructions-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const path = join(folder, "data.jsonl");
  const good = '{"prompt": "a", "completion": "b", "id": 7}';
  const refuse = async (line: string, message: string): Promise<void> => {
    await writeFile(path, `${good}\n\n${line}\n`);
    await assert.rejects(readInstructions(path), (error: Error) => {
      assert.ok(error.message.startsWith(`${path}:3: ${message}`), error.message);
      assert.match(error.message, / Fix: /);
      return true;
    });
  };
  await writeFile(path, `${good}\n`);
  assert.deepEqual(await readInstructions(path), [{ prompt: "a", completion: "b" }]);
  await refuse('{"prompt": "a"', "not valid JSON");
  await refuse(
    '{"prompt": "a", "answer": "b"}',
    'expected "messages", "prompt" and "completion" (texts), or "text", got "prompt", "answer"',
  );
  await refuse('{"messages": [{"role": "user"}]}', "message 1 has no role and content");
  await refuse('{"messages": [{"role": "user", "content": "hi"}]}', "no message of the assistant");
  await refuse("[]", 'expected "messages"');
  await writeFile(path, "\n");
  await assert.rejects(readInstructions(path), {
    message: `${path}: no records. Fix: put one JSON record on each line.`,
  });
  await assert.rejects(readInstructions(join(folder, "none.jsonl")), {
    message: /none\.jsonl: no such file or folder/,
  });
});

test("holding out: a share of the records, the same for the same seed, never all", () => {
  const items = Array.from({ length: 40 }, (_, i) => i);
  const { train, heldOut } = holdOut(items, 0.1, 3);
  assert.equal(heldOut.length, 4);
  assert.deepEqual(
    [...train, ...heldOut].sort((a, b) => a - b),
    items,
  );
  assert.deepEqual(holdOut(items, 0.1, 3), { train, heldOut });
  assert.notDeepEqual(holdOut(items, 0.1, 4).heldOut, heldOut);
  assert.deepEqual(holdOut([1], 0.5, 0), { train: [1], heldOut: [] });
  assert.equal(holdOut([1, 2], 0.99, 0).heldOut.length, 1);
});
