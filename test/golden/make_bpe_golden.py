"""Writes bpe_golden.json: vocabularies and encodings of Hugging Face's byte-level BpeTrainer for test/data/bpe-trainer.test.ts.

Run from the repository root: python test/golden/make_bpe_golden.py   (needs the `tokenizers` package)
"""

import hashlib
import json
import os
from pathlib import Path

import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CORPORA = {
    "english": [
        "The quick brown fox jumps over the lazy dog. The dog didn't mind; the fox's jump was quick.\n" * 3,
        "In the beginning was the word, and the word was 'the'.  Two  spaces,\n\n\tand tabs\t\there.   ",
    ],
    "code": [
        "export function add(a: number, b: number): number {\n  return a + b;\n}\n",
        "const xs = [1, 22, 333, 4444].map((x) => x * 2 + 0x1f); // aaaa aaaaaa aaaaaaaa ======== ====\n",
        "for (let i = 0; i < 1000; i++) { console.log(`${i}: ${xs[i]}`); }\r\n",
    ],
    "unicode": [
        "Ünïcödé naïve café — “quotes” … ½ ² ٣ Ⅷ 日本語のテキスト、漢字かな交じり文。 한국어 русский язык עברית العربية हिन्दी",
        "😀😃😄 👩‍👩‍👧‍👦 🇩🇪 a\u0301 e\u0301 \u00a0nbsp\u2003em\u3000ideographic\u0085nel\ufeffbom\u200bzwsp <|endoftext|> x",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaa ababababababab abcabcabc\u0000\u0001\u007f",
    ],
}
SIZES = {"english": [259, 300, 5000], "code": [320, 400], "unicode": [300, 450]}
PROBES = [
    "",
    "The lazy dog's word",
    " leading and trailing  ",
    "return xs[i] * 0x1f; // aaaa ====",
    "日本語 café 😀 <|im_start|>user\nhi<|im_end|>\n",
    "\u0085\ufeff\u00a0 \t\r\n",
]


def train(texts, size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    # The alphabet is the same in all cases: what is learnt comes after it.
    learnt = [token for token, id in sorted(model["vocab"].items(), key=lambda item: item[1]) if id >= 256 + len(SPECIALS)]
    return {
        "vocabSize": size,
        "learnt": learnt,
        "merges": model["merges"],
        "probes": [tokenizer.encode(probe, add_special_tokens=False).ids for probe in PROBES],
    }


def train_asset():
    """Digest of the merges learnt from tiny Shakespeare (an asset, not in the repository)."""
    root = Path(os.environ.get("PLINTH_ASSETS", "../shared/assets"))
    text = (root / "text/tinyshakespeare/input.txt").read_bytes().decode("utf-8")
    result = train([text], 3000)
    digest = hashlib.sha256("\n".join(" ".join(pair) for pair in result["merges"]).encode()).hexdigest()
    return {"vocabSize": 3000, "merges": len(result["merges"]), "sha256": digest}


out = {
    "library": f"tokenizers {tokenizers.__version__}",
    "specialTokens": SPECIALS,
    "probes": PROBES,
    "tinyShakespeare": train_asset(),
    "cases": [{"corpus": name, "texts": CORPORA[name], **train(CORPORA[name], size)} for name, sizes in SIZES.items() for size in sizes],
}
path = Path(__file__).parent / "bpe_golden.json"
path.write_text(json.dumps(out, ensure_ascii=True, separators=(",", ":")) + "\n")
print(f"{path}: {path.stat().st_size} bytes")
