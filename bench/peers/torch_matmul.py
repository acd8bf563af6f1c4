"""Times PyTorch's matrix product: one JSON request per line in, one JSON answer per line out.

{"threads": 2}                                                            -> {"version": "2.13.0"}
{"m": 1, "k": 2, "n": 3, "transposeA": false, "transposeB": true, "bfloat16": false, "repeats": 10} -> {"seconds": seconds per product}
"""

import torch

from serve import serve_kernels

operands = {}


def product(request):
    m, k, n = request["m"], request["k"], request["n"]
    key = (m, k, n, request["transposeA"], request["transposeB"], request["bfloat16"])
    if key not in operands:
        operands.clear()
        dtype = torch.bfloat16 if request["bfloat16"] else torch.float32
        a = torch.randn(k, m, dtype=dtype).t() if request["transposeA"] else torch.randn(m, k, dtype=dtype)
        b = torch.randn(n, k, dtype=dtype).t() if request["transposeB"] else torch.randn(k, n, dtype=dtype)
        operands[key] = (a, b, torch.empty(m, n, dtype=dtype))
        torch.matmul(a, b, out=operands[key][2])
    a, b, out = operands[key]
    return lambda: torch.matmul(a, b, out=out)


serve_kernels(product)
