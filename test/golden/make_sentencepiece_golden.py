"""Writes sentencepiece/: small SentencePiece models and what the sentencepiece library makes of some texts with them, for
test/data/sentence-piece.test.ts. Run from the repository root: python test/golden/make_sentencepiece_golden.py

Needs the `sentencepiece` package (written with 0.2.3). With the assets, SentencePiece's own test models are in golden.json too.
"""

import io
import json
import os
import shutil
from pathlib import Path

import sentencepiece

HERE = Path(__file__).parent
ASSETS = Path(os.environ.get("PLINTH_ASSETS", "../shared/assets"))
TRAIN = [
    "The quick brown fox jumps over the lazy dog. The dog didn't mind; the fox's jump was quick and the dog was lazy.",
    "In the beginning was the word, and the word was with the people, and the people had words for everything.",
    "def add(a, b): return a + b    for i in range(10):  print(add(i, 2 * i))",
    "Größe, naïve café, Ünïcödé: “quotes” … 日本語のテキスト、漢字。 Привет, мир! 12345 67 890",
    "tokenization tokenizer tokens tokenized unhappiness unhappy happiness happily",
] * 2
TEXTS = [
    "",
    " ",
    "The lazy dog's word.",
    "  leading and   inner spaces  ",
    "line one\n\n\tline two\r\n",
    "unhappily tokenizing 12345 words",
    "Größe café cafe\u0301 NAÏVE ﬁne ½ Ⅷ ㍻",
    "日本語の漢字 한국어 Привет",
    "😀👩‍👩‍👧 a\u200bb \u00a0x\u3000y \u0085 \ufffd",
    "for (let i = 0; i < 10; i++) { x[i] += 0x1f; }",
    "HELLO World I'LL we've",
    "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。",
    "a" * 120,
]
MODELS = {
    "llama": dict(model_type="bpe", vocab_size=420, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
                  split_digits=True, allow_whitespace_only_pieces=True, character_coverage=0.995),
    "gemma": dict(model_type="bpe", vocab_size=420, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
                  add_dummy_prefix=False, allow_whitespace_only_pieces=True, pad_id=0, eos_id=1, bos_id=2, unk_id=3,
                  user_defined_symbols=["<start>", "\n\n"], character_coverage=0.995),
    "t5": dict(model_type="unigram", vocab_size=150, normalization_rule_name="identity", pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
               character_coverage=0.995),
    "bytes": dict(model_type="unigram", vocab_size=420, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
                  character_coverage=0.995),
}


def cases(processor):
    out = []
    for text in TEXTS:
        ids = processor.encode(text)
        out.append({"text": text, "ids": ids, "decoded": processor.decode(ids)})
    return {"vocabSize": processor.get_piece_size(), "texts": out}


def main():
    folder = HERE / "sentencepiece"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    golden = {"made": {}, "assets": {}}
    for name, options in MODELS.items():
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(TRAIN), model_writer=model, minloglevel=2, num_threads=1, hard_vocab_limit=False, **options)
        (folder / f"{name}.model").write_bytes(model.getvalue())
        golden["made"][name] = cases(sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()))
    for name in ("tokenizers/sentencepiece/test_model.model", "tokenizers/sentencepiece/test_ja_model.model"):
        golden["assets"][name] = cases(sentencepiece.SentencePieceProcessor(model_file=str(ASSETS / name)))
    (folder / "golden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    for path in folder.iterdir():
        path.chmod(0o644)
        print(f"{path.name}: {path.stat().st_size} bytes")


main()
