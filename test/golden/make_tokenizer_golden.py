"""Writes tokenizers/: small tokenizer.json files with the stages of the published ones, and what the tokenizers library makes
of some texts with them, for test/data/tokenizer-golden.test.ts. Run from the repository root:

    python test/golden/make_tokenizer_golden.py

Needs the `tokenizers` package (written with 0.23). The vocabularies are trained on the texts below; every stage around them
(normaliser, pre-tokenizer, post-processor, decoder, flags of the model) is that of the named system's tokenizer.json. Spans are
in UTF-16 units. With the assets, the real vocabularies of BERT, GPT-2 and GPT-NeoX and a Llama's are in golden.json too.
"""

import json
import os
import shutil
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = Path(__file__).parent
ASSETS = Path(os.environ.get("PLINTH_ASSETS", "../shared/assets"))
TRAIN = [
    "The quick brown fox jumps over the lazy dog. The dog didn't mind; the fox's jump was quick and the dog was lazy.",
    "In the beginning was the word, and the word was with the people, and the people had words for everything.",
    "def add(a, b):\n    return a + b\n\nfor i in range(10):\n    print(add(i, 2 * i))\n",
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
    "Größe café cafe\u0301 NAÏVE ﬁne ½ Ⅷ",
    "日本語の漢字 한국어 Привет",
    "😀👩‍👩‍👧 a\u200bb \u00a0x\u3000y \ufeff \u0085 \u0000 \ufffd",
    "for (let i = 0; i < 10; i++) { x[i] += 0x1f; }",
    "HELLO World I'LL we've",
    "a" * 120,
    "[MASK] <mask> </s> <|endoftext|> [SEP] <s> <extra_id_0> <fim_prefix> <bos> text",
    "The [MASK]was <mask> here",
]
PAIRS = [
    ("Who jumps over the dog?", "The quick brown fox 😀 jumps over the lazy dog."),
    ("", "only the second"),
    ("only the first", ""),
    ("日本語", "the dog's words"),
]


def special(content, **more):
    return AddedToken(content, special=True, normalized=False, **more)


def template(single, pair, tokenizer):
    names = {piece.split(":")[0] for piece in (single + " " + pair).split() if not piece.startswith("$")}
    return processors.TemplateProcessing(single=single, pair=pair, special_tokens=[(n, tokenizer.token_to_id(n)) for n in sorted(names)])


def bert():
    t = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    t.normalizer = normalizers.BertNormalizer(lowercase=True)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    t.train_from_iterator(TRAIN, trainers.WordPieceTrainer(vocab_size=200, special_tokens=names, show_progress=False))
    t.post_processor = template("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", t)
    t.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    return t


def byte_level(names, pre, vocab=320, **model):
    t = Tokenizer(models.BPE(**model))
    t.pre_tokenizer = pre
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(TRAIN, trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=names, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return t


def roberta():
    names = ["<s>", "<pad>", "</s>", "<unk>", special("<mask>", lstrip=True)]
    t = byte_level(names, pre_tokenizers.ByteLevel(add_prefix_space=False))
    t.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False)
    return t


def starcoder():
    names = ["<|endoftext|>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>"]
    pre = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    return byte_level(names, pre)


def llama3():
    pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    pre = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t = byte_level([], pre, ignore_merges=True)
    t.add_special_tokens([special("<|begin_of_text|>"), special("<|end_of_text|>"), special("<|eot_id|>")])
    t.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True),
        template("<|begin_of_text|> $A", "<|begin_of_text|> $A <|begin_of_text|>:1 $B:1", t)])
    return t


def neox():
    t = byte_level(["<|endoftext|>", "<|padding|>"], pre_tokenizers.ByteLevel(add_prefix_space=False))
    t.normalizer = normalizers.NFC()
    t.post_processor = processors.ByteLevel(trim_offsets=True)
    t.add_tokens([AddedToken(" " * n, normalized=True) for n in (8, 4, 2)])
    return t


def sentence_piece_bpe(names, normalizer, pre, decoder):
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    trainer = Tokenizer(models.BPE())
    trainer.normalizer = normalizers.Replace(" ", "▁")
    trainer.pre_tokenizer = pre_tokenizers.Split("▁", behavior="merged_with_next")
    trainer.train_from_iterator(TRAIN, trainers.BpeTrainer(vocab_size=150, show_progress=False, limit_alphabet=90))
    learnt = json.loads(trainer.to_str())["model"]
    tokens = names + bytes_ + [token for token, _ in sorted(learnt["vocab"].items(), key=lambda item: item[1])]
    t = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, [tuple(m) for m in learnt["merges"]],
                             unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer, t.decoder = normalizer, decoder
    if pre is not None:
        t.pre_tokenizer = pre
    t.add_special_tokens([special(name) for name in names])
    return t


def llama2():
    t = sentence_piece_bpe(
        ["<unk>", "<s>", "</s>"], normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None,
        decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]))
    t.post_processor = template("<s> $A", "<s> $A <s>:1 $B:1", t)
    return t


def gemma():
    t = sentence_piece_bpe(
        ["<pad>", "<eos>", "<bos>", "<unk>"], normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", behavior="merged_with_previous"),
        decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]))
    t.post_processor = template("<bos> $A", "<bos> $A <bos>:1 $B:1", t)
    return t


def t5():
    """The published one's normaliser is a table (Precompiled) of what is here said as NFKC."""
    t = Tokenizer(models.Unigram())
    t.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")])
    t.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    t.train_from_iterator(TRAIN, trainers.UnigramTrainer(
        vocab_size=160, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False))
    t.add_special_tokens([special("<extra_id_1>"), special("<extra_id_0>")])
    t.post_processor = template("$A </s>", "$A </s> $B </s>", t)
    return t


def real():
    """Published vocabularies, by the asset that test/data/tokenizer-golden.test.ts loads."""
    vocab = (ASSETS / "tokenizers/bert/bert-base-uncased-vocab.txt").read_text("utf8").split("\n")[:-1]
    t = Tokenizer(models.WordPiece({token: i for i, token in enumerate(vocab)}, unk_token="[UNK]", max_input_chars_per_word=100))
    t.normalizer = normalizers.BertNormalizer(lowercase=True)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.add_special_tokens([special(name) for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")])
    t.post_processor = template("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", t)
    t.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    yield "tokenizers/bert/bert-base-uncased-vocab.txt", t
    for name in ("tokenizers/gpt-neox/20B_tokenizer.json", "weights/stories260k-hf/tokenizer.json"):
        yield name, Tokenizer.from_file(str(ASSETS / name))


def units(text, spans):
    """Spans of characters as spans of UTF-16 units."""
    at = [0]
    for character in text:
        at.append(at[-1] + len(character.encode("utf-16-le")) // 2)
    return [[at[a], at[b]] for a, b in spans]


def describe(encoding, texts):
    offsets = [[0, 0]] * len(encoding.ids)
    for sequence, text in enumerate(texts):
        spans = units(text, [span if s == sequence else (0, 0) for span, s in zip(encoding.offsets, encoding.sequence_ids)])
        offsets = [span if s == sequence else before for span, s, before in zip(spans, encoding.sequence_ids, offsets)]
    return {"ids": encoding.ids, "typeIds": encoding.type_ids, "offsets": offsets, "sequences": encoding.sequence_ids, "words": encoding.word_ids}


def cases(t, texts):
    out = {"texts": [], "pairs": [], "truncated": []}
    t.no_truncation()
    t.no_padding()
    for text in texts:
        plain = t.encode(text, add_special_tokens=False)
        out["texts"].append({
            "text": text, "ids": plain.ids, "special": t.encode(text).ids, "offsets": describe(plain, [text])["offsets"],
            "decoded": t.decode(plain.ids, skip_special_tokens=False), "skipped": t.decode(t.encode(text).ids, skip_special_tokens=True)})
    for pair in PAIRS:
        out["pairs"].append({"pair": pair, **describe(t.encode(*pair), pair)})
    for pair in PAIRS[:1]:
        for first, second in (pair, pair[::-1]):
            for limit in (5, 9, 12, 17):
                t.enable_truncation(limit, strategy="longest_first")
                out["truncated"].append({"pair": [first, second], "maxLength": limit, **describe(t.encode(first, second), (first, second)), "alone": t.encode(second).ids})
    t.no_truncation()
    return out


def main():
    folder = HERE / "tokenizers"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    golden = {"made": {}, "assets": {}}
    for make in (bert, roberta, starcoder, llama3, neox, llama2, gemma, t5):
        t = make()
        (folder / f"{make.__name__}.json").write_text(t.to_str(), "utf8")
        golden["made"][make.__name__] = cases(t, TEXTS)
    for name, t in real():
        golden["assets"][name] = cases(t, TEXTS)
    (folder / "golden.json").write_text(json.dumps(golden, ensure_ascii=True, separators=(",", ":")) + "\n")
    for path in folder.iterdir():
        path.chmod(0o644)
        print(f"{path.name}: {path.stat().st_size} bytes")


main()
