"""Times PyTorch's convolutions: one JSON request per line in, one JSON answer per line out.

{"threads": 2} -> {"version": "2.13.0"}
{"x": [N, C, ...], "weight": [O, C / groups, ...], "stride": 1, "padding": 0, "groups": 1,
 "pass": "forward" | "input gradient" | "weight gradient", "repeats": 10} -> {"seconds": seconds per call}
"""

import json

import torch

from serve import serve_kernels

made = {}


def work(request):
    axes = len(request["x"]) - 2
    every = lambda name, default: [request.get(name, default)] * axes
    stride, padding, groups = every("stride", 1), every("padding", 0), request.get("groups", 1)
    key = json.dumps({name: value for name, value in request.items() if name != "repeats"}, sort_keys=True)
    if key not in made:
        made.clear()
        x, weight = torch.randn(request["x"]), torch.randn(request["weight"])
        y = torch.convolution(x, weight, None, stride, padding, [1] * axes, False, [0] * axes, groups)
        made[key] = (x, weight, torch.randn_like(y))
    x, weight, dy = made[key]
    if request["pass"] == "forward":
        return lambda: torch.convolution(x, weight, None, stride, padding, [1] * axes, False, [0] * axes, groups)
    mask = [request["pass"] == "input gradient", request["pass"] == "weight gradient", False]
    return lambda: torch.ops.aten.convolution_backward(
        dy, x, weight, None, stride, padding, [1] * axes, False, [0] * axes, groups, mask
    )


serve_kernels(work)
