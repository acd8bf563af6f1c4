"""Loads tokenizer.json files with the tokenizers library: python check_tokenizer.py FILE... < texts.json (a list of texts).
Prints for each file the ids of every text, without and with special tokens, and what they decode to."""

import json
import sys

from tokenizers import Tokenizer

texts = json.load(sys.stdin)
out = []
for path in sys.argv[1:]:
    t = Tokenizer.from_file(path)
    ids = [t.encode(text, add_special_tokens=False).ids for text in texts]
    out.append({"ids": ids, "special": [t.encode(text).ids for text in texts], "decoded": [t.decode(i) for i in ids]})
json.dump(out, sys.stdout)
