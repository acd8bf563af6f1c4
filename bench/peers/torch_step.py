"""Peer of bench/step-race.ts: the same training step in PyTorch, one AdamW step at a time, as fast as PyTorch does it on a
CPU (fused optimiser, fused attention, no dropout). One JSON request a line, one JSON answer a line:

{"arch": "gpt2" | "bert", "layers", "width", "heads", "vocab", "context", "batch", "dtype", "compile", "threads"}
                builds the model and runs a first step; gives the version and the number of parameters
{"steps": n}    runs n steps and gives seconds, the last loss and the peak resident memory of this process

An error is answered too: {"error": "..."}.
"""

import warnings

import torch
import torch.nn as nn
import torch.nn.functional as F

from gpt import Gpt, decay_groups
from serve import serve_steps

warnings.filterwarnings("ignore")


class Bert(nn.Module):
    """transformers' own, which has the fused attention. Logits of the tokens to be predicted only, as ours: the model's own
    forward pass makes those of all tokens."""

    def __init__(self, layers, width, heads, vocab, context):
        super().__init__()
        from transformers import BertConfig, BertForMaskedLM

        self.model = BertForMaskedLM(
            BertConfig(
                vocab_size=vocab, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
                intermediate_size=4 * width, max_position_embeddings=context,
                hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
            )
        )

    def forward(self, tokens, targets):
        hidden = self.model.bert(input_ids=tokens).last_hidden_state.flatten(0, 1)
        logits = self.model.cls(hidden[self.places])
        return F.cross_entropy(logits.float(), targets.flatten()[self.places])


class Step:
    def __init__(self, request):
        torch.manual_seed(0)
        torch.set_num_threads(request["threads"])
        kind = {"gpt2": Gpt, "bert": Bert}[request["arch"]]
        model = kind(*(request[k] for k in ("layers", "width", "heads", "vocab", "context")))
        for p in model.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.02)
        self.parameters = list(model.parameters())
        self.optimizer = torch.optim.AdamW(decay_groups(self.parameters, 0.1), lr=3e-4, betas=(0.9, 0.95), fused=True)
        shape = (request["batch"], request["context"])
        self.tokens, self.targets = torch.randint(request["vocab"], shape), torch.randint(request["vocab"], shape)
        # 15 % of the tokens are to be predicted; which ones does not matter for the time.
        model.places = torch.randperm(shape[0] * shape[1])[: -(-15 * shape[1] // 100) * shape[0]]
        self.model = torch.compile(model) if request["compile"] else model
        self.autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=request["dtype"] == "bfloat16")

    def run(self):
        with self.autocast:
            loss = self.model(self.tokens, self.targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        return loss.item()


serve_steps(Step, torch.__version__)
