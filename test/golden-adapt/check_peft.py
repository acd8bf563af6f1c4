"""Opens an adapter that Plinth wrote with PEFT and compares logits:

    python test/golden-adapt/check_peft.py MODEL ADAPTER VALUES.safetensors

VALUES holds tokens[B,T] and the logits that Plinth computed, of a sequence classifier where the adapter has a head.json. Prints one JSON line: the largest relative error
(infinity norms) with the adapter, the same without it, and the keys of the adapter that PEFT did not expect.
"""

import json
import os
import sys

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

model_dir, adapter_dir, values_path = sys.argv[1:]
values = load_file(values_path)
head = os.path.join(adapter_dir, "head.json")
if os.path.exists(head):
    labels = len(json.load(open(head))["labels"])
    model = AutoModelForSequenceClassification.from_pretrained(model_dir, attn_implementation="eager", num_labels=labels).eval()
else:
    model = AutoModelForCausalLM.from_pretrained(model_dir, attn_implementation="eager").eval()
tokens, expected = values["tokens"].long(), values["logits"]


def error(logits):
    return ((logits - expected).abs().max() / expected.abs().max()).item()


with torch.no_grad():
    without = error(model(tokens).logits)
    adapted = PeftModel.from_pretrained(model, adapter_dir).eval()
    with_adapter = error(adapted(tokens).logits)
known = set(get_peft_model_state_dict(adapted))
given = set(load_file(f"{adapter_dir}/adapter_model.safetensors"))
print(json.dumps({"with": with_adapter, "without": without, "unknown": sorted(given - known), "missing": sorted(known - given)}))
