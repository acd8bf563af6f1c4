"""Peer of bench/step-race.ts: the same training step in PyTorch, one AdamW step at a time, as fast as PyTorch does it on a
CPU (fused optimiser, fused attention, no dropout). One JSON request a line, one JSON answer a line:

{"arch": "gpt2" | "bert", "layers", "width", "heads", "vocab", "context", "batch", "dtype", "compile", "threads"}
                builds the model and runs a first step; gives the number of parameters and what it runs on
{"steps": n}    runs n steps and gives seconds, the last loss and the peak resident memory of this process

An error is answered too: {"error": "..."}.
"""
import json
import resource
import sys
import time
import warnings

import torch
import torch.nn as nn
import torch.nn.functional as F

warnings.filterwarnings("ignore")


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.c_fc, self.c_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = self.c_attn(self.ln_1(x)).split(d, dim=2)
        q, k, v = (y.view(b, t, self.heads, d // self.heads).transpose(1, 2) for y in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).reshape(b, t, d))
        return x + self.c_out(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self, layers, width, heads, vocab, context):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab, width), nn.Embedding(context, width)
        self.h = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)

    def forward(self, tokens, targets):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.h:
            x = block(x)
        logits = F.linear(self.ln_f(x), self.wte.weight)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]).float(), targets.reshape(-1))


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
        decay = [p for p in model.parameters() if p.dim() > 1]
        rest = [p for p in model.parameters() if p.dim() <= 1]
        groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
        self.parameters = list(model.parameters())
        self.optimizer = torch.optim.AdamW(groups, lr=3e-4, betas=(0.9, 0.95), fused=True)
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


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main():
    step = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "steps" in request:
                start = time.perf_counter()
                for _ in range(request["steps"]):
                    loss = step.run()
                answer = {"seconds": time.perf_counter() - start, "loss": loss, "peakBytes": peak_bytes()}
            else:
                step = Step(request)
                step.run()
                answer = {"parameters": sum(p.numel() for p in step.parameters), "version": torch.__version__}
        except Exception as error:  # compiling needs a C++ compiler, a model its library: said, not fatal
            answer = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"}
        print(json.dumps(answer), flush=True)


main()
