/** Heads: reading and writing them in config.json, changing one for another. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import {
  type HeadKind,
  headConfig,
  headOf,
  initModel,
  llama,
  loadModel,
  type Model,
  modelFamilies,
  saveModel,
  withHead,
} from "../../src/models/index.ts";
import { goldenDir } from "./support.ts";

const dials = { vocabSize: 29, contextLength: 16, hiddenSize: 16, numLayers: 1, numHeads: 2 };
const labels = ["no", "maybe", "yes"];
const golden = (name: string): string => join(goldenDir, name);

for (const family of modelFamilies()) {
  const kinds = Object.keys(family.heads ?? {}) as HeadKind[];
  if (kinds.length === 0) continue;
  suite(`heads of ${family.modelType}`, () => {
    for (const kind of kinds) {
      test(`${kind}: config.json round trip, saving and loading, back to the language model`, async () => {
        const base = initModel(family, family.createConfig(dials), { seed: 1 });
        const model = withHead(base, { head: kind, labels, seed: 2 });
        const json = JSON.parse(JSON.stringify(family.formatConfig(model.config))) as { architectures: string[] };
        assert.deepEqual(json.architectures, [family.heads?.[kind]]);
        assert.deepEqual(headOf(family.parseConfig(json)), headOf(model.config));
        assert.deepEqual([...model.params.keys()], Object.keys(family.parameters(model.config)));
        const folder = await mkdtemp(join(tmpdir(), "plinth-heads-"));
        try {
          await saveModel(model, folder);
          const loaded = await loadModel(folder);
          assert.deepEqual(headOf(loaded.config), headOf(model.config));
          for (const [name, { data }] of model.params) assert.deepEqual(loaded.params.get(name)?.data, data, name);
          const back = await loadModel(folder, { head: "lm" });
          assert.deepEqual([...back.params.keys()], [...base.params.keys()]);
          const shared = [...base.params].filter(([name]) => model.params.has(name));
          assert.ok(shared.length > 5);
          for (const [name, { data }] of shared) assert.deepEqual(back.params.get(name)?.data, data, name);
        } finally {
          await rm(folder, { recursive: true, force: true });
        }
      });
    }
  });
}

test("a new head: what is new and what goes is named, the trunk stays", async () => {
  const notes: string[] = [];
  const options = {
    head: "sequence-classification",
    labels: ["bad", "good"],
    onNote: (text: string) => notes.push(text),
  } as const;
  const model = await loadModel(golden("bert"), options);
  const added = ["bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias"];
  assert.deepEqual(model.fresh, added);
  assert.equal(notes[0], `new weights of the sequence-classification head: ${added.join(", ")}`);
  assert.match(notes[1] as string, /^weights of the lm head dropped: cls\.predictions\.transform\.dense\.weight, /);
  const plain = await loadModel(golden("bert"));
  for (const [name, { data }] of plain.params) {
    if (name.startsWith("bert.")) assert.deepEqual(model.params.get(name)?.data, data, name);
  }
  assert.deepEqual(withHead(plain, options).params, model.params);
});

test("weights that the checkpoint has for a head are taken", async () => {
  const both = await loadModel(golden("bert-variant"));
  const next = await loadModel(golden("bert-variant"), { head: "next-sentence" });
  assert.deepEqual(next.fresh, []);
  const name = "cls.seq_relationship.weight";
  assert.deepEqual(next.params.get(name), both.params.get(name));
  const same = withHead(next, { head: "next-sentence" });
  assert.equal(same, next);
});

test("more labels: the classifier starts afresh, the pooler stays", async () => {
  const three = await loadModel(golden("heads/bert-sequence"));
  const five = withHead(three, { head: "sequence-classification", labels: ["a", "b", "c", "d", "e"] });
  assert.deepEqual(five.fresh, ["classifier.weight", "classifier.bias"]);
  assert.deepEqual(five.params.get("classifier.weight")?.shape, [5, 12]);
});

test("problems follow from the number of labels, or are given", () => {
  assert.equal(headConfig("sequence-classification", ["score"]).problem, "regression");
  assert.equal(headConfig("sequence-classification", labels).problem, "single_label_classification");
  const given = headConfig("sequence-classification", labels, "multi_label_classification");
  assert.equal(given.problem, "multi_label_classification");
});

test("a decoder's config.json: published classes are the language model's, its labels stay, others are refused", () => {
  const read = (edit: object) => llama.parseConfig({ model_type: "llama", ...edit });
  for (const architectures of [null, ["LLaMAForCausalLM"], ["LlamaModel"], ["LlamaForCausalLM"]]) {
    const c = read({ architectures, id2label: { 0: "LABEL_0" }, num_labels: 1 });
    assert.equal(headOf(c).kind, "lm");
    const json = llama.formatConfig(c);
    assert.deepEqual([json["id2label"], json["architectures"]], [{ 0: "LABEL_0" }, ["LlamaForCausalLM"]]);
  }
  const c = read({ architectures: ["LlamaForSequenceClassification"], num_labels: 3, pad_token_id: 5 });
  assert.deepEqual(headOf(c), headConfig("sequence-classification", ["LABEL_0", "LABEL_1", "LABEL_2"]));
  const json = llama.formatConfig(c);
  assert.deepEqual([json["num_labels"], json["pad_token_id"]], [undefined, 5]);
  assert.throws(() => read({ architectures: ["LlamaForTokenClassification"] }), {
    message:
      "config.json: architectures: LlamaForTokenClassification is not implemented. Fix: use one of LlamaForCausalLM, LlamaForSequenceClassification.",
  });
  const wrong = { architectures: ["LlamaForSequenceClassification"], id2label: ["no"] };
  assert.throws(() => read(wrong), /config\.json: id2label: /);
});

test("what does not fit is refused by name", async () => {
  const model = (await loadModel(golden("bert"))) as Model;
  assert.throws(() => withHead(model, { head: "token-classification" }), {
    message:
      "head token-classification: no labels. Fix: name what there is to tell apart, for example negative,positive.",
  });
  const config = { ...model.family.formatConfig(model.config), architectures: ["BertForMultipleChoice"] };
  assert.throws(() => model.family.parseConfig(config), {
    message: /^config.json: architectures: BertForMultipleChoice is not implemented. Fix: use one of BertForMaskedLM, /,
  });
  const packed = { ...model, quantized: new Map() };
  assert.throws(() => withHead(packed, { head: "next-sentence" }), {
    message: "the head of a quantised or adapted model cannot change. Fix: choose the head first.",
  });
  const decoder = await loadModel(golden("llama"));
  assert.throws(() => withHead(decoder, { head: "next-sentence" }), /llama has no head "next-sentence"/);
});
