import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { packageRoot } from "../../src/base/index.ts";
import { createIo } from "../../src/cli/io.ts";
import { clearlyLower, type QuickstartResult } from "../../src/cli/quickstart/report.ts";
import { quickstart } from "../../src/cli/quickstart/run.ts";
import { loadModel } from "../../src/models/index.ts";

const tiny = {
  vocabSize: 320,
  layers: 1,
  width: 32,
  heads: 2,
  context: 96,
  batchSize: 4,
  pretrainSteps: 24,
  adaptSteps: 6,
};

function quietIo(signal = new AbortController().signal, onNote: (text: string) => void = () => undefined) {
  const err = { write: (text: string) => onNote(text), isTTY: false };
  return createIo({ out: { write: () => undefined }, err }, { json: true, verbose: false, signal });
}

describe("quickstart", () => {
  let folder: string;
  let whole: QuickstartResult;
  const text = join(packageRoot(), "src", "data");
  const options = (out: string) => ({ folder: text, out: join(folder, out), seed: 3, resume: false, plan: tiny });
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "plinth-quickstart-"));
    whole = await quickstart(options("whole"), quietIo());
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  test("the document has what scripts rely on", () => {
    assert.ok(whole.dataset.documents > 10 && whole.dataset.heldOutDocuments > 0);
    assert.equal(whole.tasks.length, 2);
    for (const task of whole.tasks) {
      assert.equal(task.metric, "bits-per-byte");
      for (const side of [task.base, task.adapted, task.scratch]) {
        assert.ok(side.value > 0 && side.value < 16, `${side.value}`);
        assert.ok(side.standardError > 0, `${side.standardError}`);
      }
    }
    assert.ok(Object.values(whole.seconds).every((s) => s >= 0) && "pretrain" in whole.seconds);
    assert.ok(whole.samples.length >= 3);
    assert.deepEqual(JSON.parse(readFileSync(join(folder, "whole", "report.json"), "utf8")), whole);
  });

  test("the report is one page with curves, tasks, licences and samples, and asks nothing of the network", () => {
    const html = readFileSync(whole.report, "utf8");
    assert.ok((html.match(/<svg /g) ?? []).length >= 3);
    for (const word of ["Pretraining", "Adaptation", "Samples", "NOASSERTION", "restore", "words"]) {
      assert.ok(html.includes(word), word);
    }
    assert.doesNotMatch(html, /<script|<link|<img|src=|@import/);
    assert.doesNotMatch(html, /NaN/);
    assert.ok(html.includes(">held out</text>") && html.includes("<circle"), "the held-out curve is drawn");
  });

  test("the model it leaves is an ordinary model folder", async () => {
    const model = await loadModel(whole.model.path);
    assert.equal(model.config.vocabSize, whole.tokenizer.vocabSize);
  });

  test("stopped in the middle and resumed, it ends with the same figures", async () => {
    const stop = new AbortController();
    const io = quietIo(stop.signal, (line) => {
      if (line.includes("step 8")) stop.abort();
    });
    await assert.rejects(quickstart(options("stopped"), io), /stopped; what was done is in .*--resume --out/);
    assert.ok(!existsSync(join(folder, "stopped", "report.html")));
    await assert.rejects(
      quickstart(options("stopped"), quietIo()),
      /already holds a quickstart\. Fix: continue it with --resume/,
    );
    const resumed = await quickstart({ ...options("stopped"), resume: true }, quietIo());
    assert.deepEqual(resumed.tasks, whole.tasks);
    assert.equal(resumed.model.bitsPerByte, whole.model.bitsPerByte);
  });

  test("a folder with too little text is refused by name", async () => {
    const small = join(folder, "small");
    mkdirSync(small);
    writeFileSync(
      join(small, "a.txt"),
      "one line of text that is long enough to be kept in the dataset of the quickstart\n",
    );
    await assert.rejects(quickstart({ ...options("none"), folder: small }, quietIo()), /small.*few/s);
  });
});

test("clearly lower means by more than two standard errors of the difference", () => {
  const at = (value: number) => ({ value, standardError: 0.1 });
  assert.ok(clearlyLower(at(1), at(1.3)));
  assert.ok(!clearlyLower(at(1), at(1.28)));
  assert.ok(!clearlyLower(at(1.3), at(1)));
});
