"""What the reference's pipelines say, of tiny random models. One command, from the repository's root:

    python test/golden/make_pipeline_goldens.py

Writes test/golden/pipelines/<task>/ (a model with its tokenizer) and test/golden/pipelines/expected.json.
"""

import json
import os
import shutil

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers, decoders
from transformers import (BertConfig, BertForMaskedLM, BertForQuestionAnswering, BertForSequenceClassification,
                          BertForTokenClassification, BertModel, PreTrainedTokenizerFast, pipeline)

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pipelines")
TEXT = ["The quick brown fox jumps over the lazy dog near the river bank in Oslo.",
        "Ada Lovelace wrote the first program for a machine that nobody had built.",
        "It was a joy from start to finish, and nobody in the hall wanted to leave.",
        "This example is about science, sport or music."]


def tokenizer():
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer, t.pre_tokenizer = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    t.train_from_iterator(TEXT, trainers.WordPieceTrainer(vocab_size=160, special_tokens=special, show_progress=False))
    t.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, t.token_to_id(name)) for name in ("[CLS]", "[SEP]")])
    return PreTrainedTokenizerFast(tokenizer_object=t, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
                                   sep_token="[SEP]", mask_token="[MASK]", model_max_length=64,
                                   model_input_names=["input_ids", "token_type_ids", "attention_mask"])


def answers(model, words, question, context, top_k):
    """Spans of at most 15 tokens by the product of both probabilities, which the first token takes part in."""
    given = words(question, context, return_offsets_mapping=True, return_tensors="pt")
    offsets = given.pop("offset_mapping")[0].tolist()
    with torch.no_grad():
        result = model(**given)
    places = [i for i, part in enumerate(given.sequence_ids(0)) if i == 0 or part == 1]
    start, end = (x[0][places].softmax(-1).tolist() for x in (result.start_logits, result.end_logits))
    spans = [(start[i] * end[j], places[i], places[j]) for i in range(1, len(places)) for j in range(i, min(len(places), i + 15))]
    spans.sort(key=lambda span: -span[0])
    return [dict(score=score, start=offsets[i][0], end=offsets[j][1], answer=context[offsets[i][0]:offsets[j][1]])
            for score, i, j in spans[:top_k]]


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    words = tokenizer()
    base = dict(vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
                max_position_embeddings=64)
    labels = lambda names: dict(id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)})
    cases = {
        "fill-mask": (BertForMaskedLM, BertConfig(**base)),
        "text-classification": (BertForSequenceClassification, BertConfig(**base, **labels(["bad", "fair", "good"]))),
        "token-classification": (BertForTokenClassification, BertConfig(**base, **labels(["O", "B-PER", "I-PER", "B-LOC"]))),
        "question-answering": (BertForQuestionAnswering, BertConfig(**base)),
        "zero-shot-classification": (BertForSequenceClassification,
                                     BertConfig(**base, **labels(["contradiction", "neutral", "entailment"]))),
        "feature-extraction": (BertModel, BertConfig(**base)),
    }
    pipelines = {}
    for seed, (task, (model_class, config)) in enumerate(cases.items()):
        torch.manual_seed(seed)
        model = model_class(config).eval()
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.15 * torch.randn_like(p))
        folder = os.path.join(HERE, task)
        os.makedirs(folder)
        model.save_pretrained(folder)
        words.save_pretrained(folder)
        for entry in os.scandir(folder):
            os.chmod(entry, 0o644)
        # Version 5 of the reference has no such pipeline any more: its model, and the search of its version 4.
        pipelines[task] = (lambda model=model, **given: answers(model, words, **given)) if task == "question-answering" else (
            pipeline(task, model=model, tokenizer=words))
    qa, zero = pipelines["question-answering"], pipelines["zero-shot-classification"]
    context = TEXT[1] + " " + TEXT[0]
    expected = {
        "fill-mask": pipelines["fill-mask"]("The quick [MASK] fox jumps.", top_k=3),
        "text-classification": pipelines["text-classification"](TEXT[2], top_k=3),
        "text-classification pair": pipelines["text-classification"]({"text": TEXT[2], "text_pair": TEXT[3]}, top_k=1),
        "token-classification": pipelines["token-classification"](TEXT[1], ignore_labels=[]),
        "token-classification simple": pipelines["token-classification"](TEXT[1], aggregation_strategy="simple"),
        "question-answering": qa(question="Who wrote the first program?", context=context, top_k=3),
        "zero-shot-classification": zero(TEXT[0], ["science", "sport", "music"]),
        "zero-shot-classification multi": zero(TEXT[0], ["science", "sport"], multi_label=True, hypothesis_template="It is {}."),
        "feature-extraction": pipelines["feature-extraction"](TEXT[3])[0],
    }
    with open(os.path.join(HERE, "expected.json"), "w") as f:
        json.dump({"texts": TEXT, "expected": expected}, f, indent=1, default=float)
        f.write("\n")


if __name__ == "__main__":
    main()
