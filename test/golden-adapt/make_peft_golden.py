"""Golden LoRA adapters from PEFT. One command, from the repository's root:

    python test/golden-adapt/make_peft_golden.py

Needs torch, transformers, peft and safetensors (written with torch 2.13.0, transformers 5.23.0, peft 0.21.2). The base
models are the tiny ones of test/golden. A case is a folder with what PEFT's `save_pretrained` writes
(adapter_config.json, adapter_model.safetensors) and golden.safetensors with

    tokens[B,T]
    logits          of the model with the adapter
    merged.<name>   every weight that differs after merge_and_unload(), under its checkpoint name
"""

import json
import os
import shutil

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
BASES = os.path.join(HERE, "..", "golden")

CASES = {
    # GPT-2's Conv1D stores weights [in, out]; `c_proj` is a suffix of two different modules.
    "gpt2": ("gpt2", dict(r=3, lora_alpha=5, lora_dropout=0.1, target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)),
    "gpt2-all": ("gpt2", dict(r=2, lora_alpha=8, target_modules="all-linear", use_rslora=True, fan_in_fan_out=True)),
    "llama": ("llama-gqa", dict(r=4, lora_alpha=6, target_modules=["q_proj", "v_proj", "down_proj"])),
    "llama-all": ("llama", dict(r=2, lora_alpha=3, target_modules="all-linear")),
}


def make(name, base, options):
    torch.manual_seed(11)
    model = AutoModelForCausalLM.from_pretrained(os.path.join(BASES, base), attn_implementation="eager").eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options)).eval()
    with torch.no_grad():
        for key, value in adapted.named_parameters():
            if "lora_" in key:  # B starts at zero, which would hide every mistake
                value.copy_(0.3 * torch.randn_like(value))
    folder = os.path.join(HERE, name)
    shutil.rmtree(folder, ignore_errors=True)
    adapted.save_pretrained(folder)
    os.remove(os.path.join(folder, "README.md"))
    config_path = os.path.join(folder, "adapter_config.json")
    with open(config_path) as file:
        config = json.load(file)
    config["base_model_name_or_path"] = base
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()  # PEFT writes a set: its order changes from run to run
    with open(config_path, "w") as file:
        json.dump(config, file, indent=2, sort_keys=True)
        file.write("\n")

    tokens = torch.randint(0, model.config.vocab_size, (2, 11))
    with torch.no_grad():
        out = {"tokens": tokens.to(torch.int32), "logits": adapted(tokens).logits}
    merged = adapted.merge_and_unload().state_dict()
    out.update({f"merged.{key}": value.contiguous() for key, value in merged.items() if not torch.equal(value, before[key])})
    save_file(out, os.path.join(folder, "golden.safetensors"))


for name, (base, options) in CASES.items():
    make(name, base, options)
    print(name, sorted(os.listdir(os.path.join(HERE, name))))
