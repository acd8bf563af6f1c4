"""Times PyTorch's fused attention for CPUs: one JSON request per line in, one JSON answer per line out.

{"threads": 2} -> {"version": "2.13.0"}
{"sizes": [B, T, S, H, G, K], "causal": true, "dtype": "float32" | "bfloat16", "pass": "forward" | "backward",
 "repeats": 10} -> {"seconds": seconds per call}

Operands are views of [B, T, H, K], as models make them. Shared key-value heads are repeated beforehand, not timed.
"""

import json

import torch

from serve import serve_kernels

forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
made = {}


def work(request):
    key = json.dumps({name: value for name, value in request.items() if name not in ("repeats", "pass")})
    if key not in made:
        made.clear()
        B, T, S, H, G, K = request["sizes"]
        make = lambda length: torch.randn(B, length, H, K, dtype=getattr(torch, request["dtype"])).transpose(1, 2)
        q, k, v, dout = make(T), make(S), make(S), make(T)
        made[key] = (q, k, v, dout, *forward(q, k, v, 0.0, request["causal"]))
    q, k, v, dout, out, lse = made[key]
    if request["pass"] == "forward":
        return lambda: forward(q, k, v, 0.0, request["causal"])
    return lambda: backward(dout, q, k, v, out, lse, 0.0, request["causal"])


serve_kernels(work)
