"""Peer of bench/char-shakespeare.ts: nanoGPT's CPU recipe for character-level Shakespeare in PyTorch, with the model that
recipes/char-shakespeare.yaml trains (biases, tied head, no dropout), the same data, batches of the same shape and the
same schedule; fused AdamW and fused attention, without torch.compile, as nanoGPT runs it on a CPU.

    python bench/peers/nanogpt_char.py input.txt [--steps 2000] [--threads 2] [--lr 2e-3] [--seed 1337]

Prints one JSON line: {"version", "parameters", "seconds" of training, "loss", "heldOutLoss" over the whole last tenth}.
"""

import argparse
import json
import math
import sys
import time

import torch
import torch.nn as nn

from gpt import Gpt, decay_groups

LAYERS, HEADS, WIDTH, CONTEXT, BATCH = 4, 4, 128, 64, 12
WARMUP, DECAY, BETAS, CLIP = 100, 0.1, (0.9, 0.99), 1.0


def initialise(model):
    for name, p in model.named_parameters():
        if p.dim() > 1:
            residual = name.endswith(("c_proj.weight", "c_out.weight"))
            nn.init.normal_(p, std=0.02 / math.sqrt(2 * LAYERS) if residual else 0.02)
        elif name.endswith("bias"):
            nn.init.zeros_(p)


def held_out_loss(model, ids):
    total = count = 0
    rows = (len(ids) - 1) // CONTEXT
    tokens = ids[: rows * CONTEXT].view(rows, CONTEXT)
    targets = ids[1 : rows * CONTEXT + 1].view(rows, CONTEXT)
    with torch.no_grad():
        for start in range(0, rows, 256):
            part = targets[start : start + 256]
            total += model(tokens[start : start + 256], part, reduction="sum").item()
            count += part.numel()
    return total / count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("text")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--lr", type=float, default=2e-3, help="peak; the schedule ends at a tenth of it")
    parser.add_argument("--seed", type=int, default=1337)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    with open(args.text, encoding="utf-8") as file:
        text = file.read()
    ids = {character: i for i, character in enumerate(sorted(set(text)))}
    data = torch.tensor([ids[character] for character in text])
    train, held_out = data[: int(0.9 * len(data))], data[int(0.9 * len(data)) :]
    model = Gpt(LAYERS, WIDTH, HEADS, len(ids), CONTEXT)
    initialise(model)
    optimizer = torch.optim.AdamW(decay_groups(model.parameters(), DECAY), lr=args.lr, betas=BETAS, fused=True)
    started = time.perf_counter()
    for step in range(args.steps):
        if step < WARMUP:
            lr = args.lr * (step + 1) / (WARMUP + 1)
        else:
            lr = 0.1 * args.lr + 0.45 * args.lr * (1 + math.cos(math.pi * (step - WARMUP) / (args.steps - 1 - WARMUP)))
        for group in optimizer.param_groups:
            group["lr"] = lr
        starts = torch.randint(len(train) - CONTEXT, (BATCH,))
        tokens = torch.stack([train[i : i + CONTEXT] for i in starts])
        targets = torch.stack([train[i + 1 : i + 1 + CONTEXT] for i in starts])
        loss = model(tokens, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        if step % 250 == 0:
            print(f"step {step}: loss {loss.item():.4f}", file=sys.stderr)
    seconds = time.perf_counter() - started
    print(json.dumps({
        "version": torch.__version__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": seconds,
        "loss": loss.item(),
        "heldOutLoss": held_out_loss(model, held_out),
    }))


main()
