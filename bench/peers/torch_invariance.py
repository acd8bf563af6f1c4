"""Does a row of PyTorch's matrix product depend on the other rows? One JSON request per line in, one JSON answer out.

{"threads": 2, "rows": 8, "k": 768, "n": 2304} -> {"version": "2.13.0", "share": elements of row 0 that differ from the row alone, 0 to 1}
"""

import torch

from serve import serve


def answer(request):
    torch.set_num_threads(request["threads"])
    torch.manual_seed(0)
    a, b = torch.randn(request["rows"], request["k"]), torch.randn(request["k"], request["n"])
    with torch.inference_mode():
        differ = torch.matmul(a, b)[0] != torch.matmul(a[:1], b)[0]
    return {"version": torch.__version__, "share": differ.float().mean().item()}


serve(answer)
