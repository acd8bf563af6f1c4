"""Writes trainer_golden.json: how well vocabularies of the reference trainers fit tiny Shakespeare (an asset), for
test/data/trainers.test.ts. Run from the repository root: python test/golden/make_trainer_golden.py

Needs `tokenizers` and `sentencepiece` (written with 0.23 and 0.2.3). Hugging Face's trainers break ties at random: the counts
differ by some tokens from run to run.
"""

import io
import json
import os
from pathlib import Path

import sentencepiece
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

ASSETS = Path(os.environ.get("PLINTH_ASSETS", "../shared/assets"))
TEXT = (ASSETS / "text/tinyshakespeare/input.txt").read_bytes().decode("utf-8")
SIZE = 2000


def word_piece():
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(lowercase=True)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    t.train_from_iterator([TEXT], trainers.WordPieceTrainer(vocab_size=SIZE, special_tokens=names, show_progress=False))
    return {"tokens": len(t.encode(TEXT).ids)}


def sentence_piece():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.split("\n")), model_writer=model, vocab_size=SIZE, model_type="unigram", character_coverage=1.0,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2, num_threads=1, max_sentence_length=10**8)
    p = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ids = [i for line in TEXT.split("\n") for i in p.encode(line)]
    return {"tokens": len(ids), "nats": -sum(p.get_score(i) for i in ids)}


out = {"vocabSize": SIZE, "wordPiece": word_piece(), "sentencePiece": sentence_piece()}
path = Path(__file__).parent / "trainer_golden.json"
path.write_text(json.dumps(out, indent=2) + "\n")
print(path.read_text())
