"""PaLM written from the paper (Chowdhery et al. 2022, arXiv:2204.02311, sections 2 and 5), as a reference for src/models/palm.ts.

    y = x + MLP(LayerNorm(x)) + Attention(LayerNorm(x))

SwiGLU, one key-value head for all queries, rotary positions (Su et al. 2021; the pairs are (i, i + K/2)), no biases in any
kernel or norm, shared input and output embeddings, logits divided by sqrt(D). Called as a transformers model is.
"""

import json
import os

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from transformers.modeling_outputs import CausalLMOutputWithPast


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        D, H, K = c["hidden_size"], c["num_attention_heads"], c["head_dim"]
        self.heads, self.width, self.theta = H, K, c["rope_theta"]
        self.q_proj = nn.Linear(D, H * K, bias=False)
        self.k_proj = nn.Linear(D, K, bias=False)
        self.v_proj = nn.Linear(D, K, bias=False)
        self.o_proj = nn.Linear(H * K, D, bias=False)

    def rotate(self, x, positions):
        """A pair as a complex number, times exp(i * position * theta^(-2i/K))."""
        kind, x, half = x.dtype, x.float(), self.width // 2
        angles = positions[:, None] * self.theta ** (-torch.arange(half) / half)
        shape = (1, len(positions)) + (1,) * (x.ndim - 3) + (half,)
        turned = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angles), angles).reshape(shape)
        return torch.cat([turned.real, turned.imag], dim=-1).to(kind)

    def forward(self, x, past, visible):
        B, T, _ = x.shape
        positions = torch.arange(T, dtype=torch.float32) + (0 if past is None else past[0].shape[1])
        q = self.rotate(self.q_proj(x).reshape(B, T, self.heads, self.width), positions)
        k, v = self.rotate(self.k_proj(x), positions), self.v_proj(x)
        if past is not None:
            k, v = torch.cat([past[0], k], dim=1), torch.cat([past[1], v], dim=1)
        scores = torch.einsum("bthk,bsk->bhts", q, k) / self.width**0.5
        weights = scores.masked_fill(~visible[:, None], float("-inf")).softmax(-1)
        return self.o_proj(torch.einsum("bhts,bsk->bthk", weights, v).reshape(B, T, -1)), (k, v)


class Mlp(nn.Module):
    def __init__(self, c):
        super().__init__()
        D, F_ = c["hidden_size"], c["intermediate_size"]
        self.gate_proj, self.up_proj = nn.Linear(D, F_, bias=False), nn.Linear(D, F_, bias=False)
        self.down_proj = nn.Linear(F_, D, bias=False)

    def forward(self, x):
        gate = self.gate_proj(x)
        return self.down_proj(gate * torch.sigmoid(gate) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.input_layernorm = nn.LayerNorm(c["hidden_size"], eps=c["layer_norm_eps"], bias=False)
        self.self_attn, self.mlp = Attention(c), Mlp(c)

    def forward(self, x, past, visible):
        normed = self.input_layernorm(x)
        attended, present = self.self_attn(normed, past, visible)
        return x + self.mlp(normed) + attended, present


class Trunk(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList(Block(c) for _ in range(c["num_hidden_layers"]))
        self.norm = nn.LayerNorm(c["hidden_size"], eps=c["layer_norm_eps"], bias=False)


class PalmForCausalLM(nn.Module):
    _supports_sdpa = False

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.model = Trunk(config)

    def forward(self, tokens, attention_mask=None, past_key_values=None, use_cache=False):
        x = self.model.embed_tokens(tokens)
        T = tokens.shape[1]
        S = T + (0 if past_key_values is None else past_key_values[0][0].shape[1])
        visible = (torch.arange(S)[None] <= torch.arange(S - T, S)[:, None])[None]
        if attention_mask is not None:
            visible = visible & attention_mask[:, None].bool()
        presents = []
        for i, layer in enumerate(self.model.layers):
            x, present = layer(x, None if past_key_values is None else past_key_values[i], visible)
            presents.append(present)
        logits = F.linear(self.model.norm(x), self.model.embed_tokens.weight) / self.config["hidden_size"] ** 0.5
        return CausalLMOutputWithPast(logits=logits, past_key_values=presents)

    def set_attn_implementation(self, name):
        assert name == "eager"

    def save_pretrained(self, path):
        with open(os.path.join(path, "config.json"), "w") as f:
            json.dump(self.config, f, indent=2)
            f.write("\n")
        tensors = {name: p.detach().contiguous() for name, p in self.named_parameters()}
        save_file(tensors, os.path.join(path, "model.safetensors"), metadata={"format": "pt"})
