"""Do folders that Plinth wrote open in transformers, and do they compute the same?

    python test/golden/check_hf_roundtrip.py FOLDER...

Each folder holds a model and expected.safetensors with tokens[B,T] and Plinth's logits. Prints one JSON line per
folder: {"folder", "error" (largest difference over largest logit), "missing", "unexpected", "generated"}; `generated` is
the reference's greedy continuation of the first row (none where there is no causal head). Exit code 1 when a weight is missing or unexpected.
"""

import json
import os
import sys

import torch
from safetensors.torch import load_file
import transformers
from transformers import AutoConfig


def logits_of(result):
    """What Plinth calls logits, whatever the head."""
    if "start_logits" in result:
        return torch.stack([result.start_logits, result.end_logits], -1)
    return next(result[key] for key in ("logits", "prediction_logits", "last_hidden_state") if key in result)


def check(folder):
    name = AutoConfig.from_pretrained(folder).architectures[0]
    generates = name.endswith(("ForCausalLM", "LMHeadModel"))
    model, info = getattr(transformers, name).from_pretrained(folder, output_loading_info=True, torch_dtype=torch.float32)
    model.eval()
    if not generates and not hasattr(model.config, "num_local_experts"):
        model.double()  # the reference's own rounding is not what is measured; its product of experts has no float64
    expected = load_file(os.path.join(folder, "expected.safetensors"))
    tokens = expected["tokens"].long()
    with torch.no_grad():
        reading = {"decoder_input_ids": tokens} if model.config.is_encoder_decoder else {}
        logits = logits_of(model(tokens, **reading))
        generated = tokens[:1] if not generates else model.generate(
            tokens[:1], attention_mask=torch.ones_like(tokens[:1]), max_new_tokens=5, do_sample=False, pad_token_id=0,
            eos_token_id=None)
    error = (logits - expected["logits"]).abs().max() / logits.abs().max()
    return {"folder": folder, "error": error.item(), "missing": sorted(info["missing_keys"]),
            "unexpected": sorted(info["unexpected_keys"]), "generated": generated[0, tokens.shape[1]:].tolist()}


if __name__ == "__main__":
    results = [check(folder) for folder in sys.argv[1:]]
    for result in results:
        print(json.dumps(result))
    sys.exit(any(r["missing"] or r["unexpected"] for r in results))
