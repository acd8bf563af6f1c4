"""Peer of bench/architecture-race.ts: any architecture of transformers, from a folder that Plinth wrote: training steps and
greedy generation as fast as eager PyTorch does them on a CPU (fused optimiser, the attention that the model chooses, no
dropout). PaLM, which transformers does not have, is the reference module of test/golden, written for clarity. One JSON
request a line, one JSON answer a line:

{"folder", "dtype", "batch", "context", "threads"}
                                loads the model and runs a first step; gives the version and the number of parameters
{"steps": n}                    runs n training steps of batch x context tokens; gives seconds and the last loss
{"generate": [[ids]], "tokens": n}
                                continues the prompts by n likeliest tokens each; gives seconds and the tokens

Training has float32 weights, with autocast where dtype is bfloat16; generation has weights of the dtype. An error is
answered too: {"error": "..."}.
"""

import json
import os
import sys
import warnings

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file

from gpt import decay_groups
from serve import seconds_of, serve

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "test", "golden"))
from palm_reference import PalmForCausalLM

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


class Palm(PalmForCausalLM):
    """The reference with what the others have: a loss, and generation with its cache."""

    @classmethod
    def load(cls, folder, config, dtype):
        model = cls(config)
        model.load_state_dict(load_file(os.path.join(folder, "model.safetensors")))
        return model.to(dtype)

    def forward(self, input_ids, labels=None, **rest):
        out = super().forward(input_ids, **rest)
        if labels is not None:
            out.loss = F.cross_entropy(out.logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
        return out

    def generate(self, tokens, max_new_tokens, **_):
        made, past = tokens, None
        for _ in range(max_new_tokens):
            out = self(tokens, past_key_values=past, use_cache=True)
            tokens, past = out.logits[:, -1:].argmax(-1), out.past_key_values
            made = torch.cat([made, tokens], dim=1)
        return made


def load(folder, dtype):
    with open(os.path.join(folder, "config.json")) as f:
        config = json.load(f)
    if config["model_type"] == "palm":
        return Palm.load(folder, config, dtype)
    return getattr(transformers, config["architectures"][0]).from_pretrained(folder, dtype=dtype)


class Race:
    def __init__(self, request):
        torch.manual_seed(0)
        torch.set_num_threads(request["threads"])
        dtype = getattr(torch, request["dtype"])
        self.model = load(request["folder"], torch.float32).train()
        self.parameters = list(self.model.parameters())
        self.optimizer = torch.optim.AdamW(decay_groups(self.parameters, 0.1), lr=3e-4, betas=(0.9, 0.95), fused=True)
        self.autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)
        B, T = request["batch"], request["context"]
        config = self.model.config
        vocab = config["vocab_size"] if isinstance(config, dict) else config.vocab_size
        tokens = torch.randint(vocab, (B, T))
        self.inputs = {"input_ids": tokens, "labels": tokens, "use_cache": False}
        self.generator = None
        if type(self.model).__name__.endswith("MaskedLM"):
            # 15 % of the tokens are to be predicted, and only their hidden states reach the head, as ours: by itself the model
            # would make the logits of all.
            places = torch.randperm(B * T)[: -(-15 * T // 100) * B]
            self.inputs = {"input_ids": tokens, "labels": tokens.flatten()[places]}

            def choose(module, inputs, output):
                output["last_hidden_state"] = output["last_hidden_state"].flatten(0, 1)[places]
                return output

            self.model.base_model.register_forward_hook(choose)
        else:
            self.generator = load(request["folder"], dtype).eval()
            self.prefix = 1 if getattr(config, "is_encoder_decoder", False) else None
            if self.prefix:
                self.inputs["labels"] = torch.randint(vocab, (B, -(-T // 4) + 8))

    def run(self):
        with self.autocast:
            loss = self.model(**self.inputs).loss
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.loss = loss.item()

    @torch.inference_mode()
    def generate(self, prompts, count):
        tokens = torch.tensor(prompts)
        made = self.generator.generate(
            tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=count, min_new_tokens=count, do_sample=False,
            pad_token_id=0, eos_token_id=None)
        self.made = made[:, self.prefix or tokens.shape[1] :].tolist()


race = None


def answer(request):
    global race
    if "steps" in request:
        return {"seconds": seconds_of(race.run, request["steps"]), "loss": race.loss}
    if "generate" in request:
        seconds = seconds_of(lambda: race.generate(request["generate"], request["tokens"]))
        return {"seconds": seconds, "tokens": race.made}
    race = None
    race = Race(request)
    race.run()
    version = f"{transformers.__version__}, PyTorch {torch.__version__.split('+')[0]}"
    return {"version": version, "parameters": sum(p.numel() for p in race.parameters)}


serve(answer)
