"""Peer of bench/gpt-step.ts: the same GPT in PyTorch, one AdamW step at a time, as fast as PyTorch does it on a CPU
(fused optimiser, fused attention, no dropout). Reads one JSON request a line, answers one JSON line:
{"layers", "width", "heads", "vocab", "context", "batch", "dtype"} builds the model, {"steps": n} runs n steps and gives seconds."""
import json
import resource
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F


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


def main():
    model = optimizer = tokens = targets = autocast = None
    for line in sys.stdin:
        request = json.loads(line)
        if "layers" in request:
            torch.manual_seed(0)
            torch.set_num_threads(request["threads"])
            model = Gpt(*(request[k] for k in ("layers", "width", "heads", "vocab", "context")))
            for p in model.parameters():
                if p.dim() > 1:
                    nn.init.normal_(p, std=0.02)
            decay = [p for p in model.parameters() if p.dim() > 1]
            rest = [p for p in model.parameters() if p.dim() <= 1]
            groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
            optimizer = torch.optim.AdamW(groups, lr=6e-4, betas=(0.9, 0.95), fused=True)
            ids = torch.randint(request["vocab"], (request["batch"], request["context"] + 1))
            tokens, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
            autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=request["dtype"] == "bfloat16")
            answer = {"parameters": sum(p.numel() for p in model.parameters()), "version": torch.__version__}
        else:
            start = time.perf_counter()
            for _ in range(request["steps"]):
                with autocast:
                    loss = model(tokens, targets)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
            loss = loss.item()
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            answer = {"seconds": time.perf_counter() - start, "loss": loss, "peakBytes": peak}
        print(json.dumps(answer), flush=True)


main()
