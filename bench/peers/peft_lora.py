"""Peer of bench/suites/lora.ts: a LoRA step with PEFT on transformers' Llama in bfloat16, as fast as PyTorch does it on a
CPU (fused attention and optimiser, no checkpointing). One JSON request a line, one JSON answer a line:

{"vocabSize", "hiddenSize", "numLayers", "numHeads", "numKvHeads", "intermediateSize", "rank", "context", "batch", "threads"}
                builds the model and runs a first step; gives the versions
{"steps": n}    runs n steps; gives seconds, the last loss and the peak resident memory of this process

An error is answered too: {"error": "..."}.
"""

import warnings

import peft
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from serve import serve_steps

warnings.filterwarnings("ignore")


class Step:
    def __init__(self, request):
        torch.manual_seed(0)
        torch.set_num_threads(request["threads"])
        torch.set_default_dtype(torch.bfloat16)
        config = LlamaConfig(
            vocab_size=request["vocabSize"], hidden_size=request["hiddenSize"], num_hidden_layers=request["numLayers"],
            num_attention_heads=request["numHeads"], num_key_value_heads=request["numKvHeads"],
            intermediate_size=request["intermediateSize"], tie_word_embeddings=False, max_position_embeddings=2048,
            use_cache=False,
        )
        model = LlamaForCausalLM._from_config(config, attn_implementation="sdpa")
        lora = peft.LoraConfig(r=request["rank"], lora_alpha=2 * request["rank"], target_modules="all-linear")
        self.model = peft.get_peft_model(model, lora)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4, fused=True)
        self.tokens = torch.randint(request["vocabSize"], (request["batch"], request["context"]))

    def run(self):
        loss = self.model(input_ids=self.tokens, labels=self.tokens).loss
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        return loss.item()


serve_steps(Step, f"{peft.__version__}, PyTorch {torch.__version__.split('+')[0]}")
