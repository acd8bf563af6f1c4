"""Peer of bench/suites/lora.ts: a LoRA step with PEFT on transformers' Llama in bfloat16, as fast as PyTorch does it on a
CPU (fused attention and optimiser, no checkpointing). One JSON request a line, one JSON answer a line:

{"vocabSize", "hiddenSize", "numLayers", "numHeads", "numKvHeads", "intermediateSize", "rank", "context", "batch", "threads"}
                builds the model; gives the versions
{"steps": n}    runs n steps; gives seconds and the peak resident memory of this process

An error is answered too: {"error": "..."}.
"""
import json
import resource
import sys
import time
import warnings

import peft
import torch
from transformers import LlamaConfig, LlamaForCausalLM

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
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.trained = trained
        self.optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
        self.tokens = torch.randint(request["vocabSize"], (request["batch"], request["context"]))

    def run(self):
        loss = self.model(input_ids=self.tokens, labels=self.tokens).loss
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        return loss.item()


def main():
    step = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "steps" in request:
                start = time.perf_counter()
                for _ in range(request["steps"]):
                    step.run()
                seconds = time.perf_counter() - start
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
                answer = {"seconds": seconds, "peakBytes": peak}
            else:
                step = Step(request)
                answer = {"version": f"{peft.__version__}, PyTorch {torch.__version__.split('+')[0]}"}
        except Exception as error:  # said to the bench, which says it in its table
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


main()
