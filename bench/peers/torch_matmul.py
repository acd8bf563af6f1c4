"""Times PyTorch's matrix product: one JSON request per line in, one JSON answer per line out.

{"threads": 2}                                                            -> {"version": "2.13.0"}
{"m": 1, "k": 2, "n": 3, "transposeA": false, "transposeB": true, "bfloat16": false, "repeats": 10} -> {"seconds": seconds per product}
"""

import json
import sys
import time

import torch

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
    start = time.perf_counter()
    for _ in range(request["repeats"]):
        torch.matmul(a, b, out=out)
    return {"seconds": (time.perf_counter() - start) / request["repeats"]}


with torch.inference_mode():
    for line in sys.stdin:
        request = json.loads(line)
        if "threads" in request:
            torch.set_num_threads(request["threads"])
            answer = {"version": torch.__version__}
        else:
            answer = product(request)
        print(json.dumps(answer), flush=True)
