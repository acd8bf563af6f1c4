"""Writes optimizers.json: parameters after steps of PyTorch's optimisers on fixed gradients, in float64.

    python test/golden-optimizers/make_optimizer_golden.py

Lion, which PyTorch lacks, follows program 1 of Chen et al. 2023. Muon's Newton-Schulz iteration runs in float64 instead
of the bfloat16 that torch.optim rounds to.
"""

import inspect
import json
from pathlib import Path

import torch

SHAPES = {"tall": (6, 4), "wide": (3, 5), "vector": (5,)}
STEPS = 4
LR = 0.05


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr, beta1, beta2, weight_decay):
        super().__init__(params, {"lr": lr})
        self.beta1, self.beta2, self.weight_decay = beta1, beta2, weight_decay

    @torch.no_grad()
    def step(self):
        for p in self.param_groups[0]["params"]:
            m = self.state[p].setdefault("m", torch.zeros_like(p))
            update = torch.sign(self.beta1 * m + (1 - self.beta1) * p.grad)
            p -= self.param_groups[0]["lr"] * (update + self.weight_decay * p)
            m.mul_(self.beta2).add_((1 - self.beta2) * p.grad)


def exact_muon():
    muon = torch.optim._muon
    source = inspect.getsource(muon._zeropower_via_newtonschulz).replace("grad.bfloat16()", "grad.clone()")
    exec(source, muon.__dict__)
    return torch.optim.Muon


CASES = {
    "sgd": ({"momentum": 0}, lambda p: torch.optim.SGD(p, lr=LR)),
    "sgd momentum": ({"momentum": 0.9, "weightDecay": 0.1}, lambda p: torch.optim.SGD(p, lr=LR, momentum=0.9, weight_decay=0.1)),
    "sgd nesterov": ({"momentum": 0.8, "nesterov": 1}, lambda p: torch.optim.SGD(p, lr=LR, momentum=0.8, nesterov=True)),
    "adamw": (
        {"beta1": 0.9, "beta2": 0.95, "weightDecay": 0.1},
        lambda p: torch.optim.AdamW(p, lr=LR, betas=(0.9, 0.95), weight_decay=0.1),
    ),
    "lion": ({"beta1": 0.9, "beta2": 0.99, "weightDecay": 0.1}, lambda p: Lion(p, LR, 0.9, 0.99, 0.1)),
    # PyTorch takes the smallest step of the parameter's type for eps[0]: that of float32 is what Plinth uses.
    "adafactor": (
        {"weightDecay": 0.1},
        lambda p: torch.optim.Adafactor(p, lr=LR, eps=(2**-23, 1e-3), weight_decay=0.1),
    ),
    "adafactor eps": ({"eps": 2, "clip": 1.1}, lambda p: torch.optim.Adafactor(p, lr=LR, eps=(2**-23, 2), d=1.1)),
    "muon": (
        {"momentum": 0.95, "weightDecay": 0.1},
        lambda p: exact_muon()([x for x in p if x.ndim == 2], lr=LR, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
    ),
}


def main():
    generator = torch.Generator().manual_seed(0)
    normal = lambda shape: torch.randn(shape, generator=generator, dtype=torch.float64).float().double()
    start = {name: normal(shape) for name, shape in SHAPES.items()}
    grads = [{name: normal(shape) for name, shape in SHAPES.items()} for _ in range(STEPS)]
    flat = lambda tensors: {name: x.flatten().tolist() for name, x in tensors.items()}
    cases = []
    for name, (options, make) in CASES.items():
        params = {key: x.clone().requires_grad_() for key, x in start.items()}
        optimizers = [make(list(params.values()))]
        if name == "muon":
            # PyTorch's takes matrices only; the rest is AdamW's.
            optimizers.append(torch.optim.AdamW([params["vector"]], lr=LR, betas=(0.9, 0.95), weight_decay=0.1))
        for step in grads:
            for key, p in params.items():
                p.grad = step[key].clone()
            for optimizer in optimizers:
                optimizer.step()
        cases.append({"name": name, "options": options, "params": flat({k: p.detach() for k, p in params.items()})})
    out = {
        "torch": torch.__version__.split("+")[0],
        "lr": LR,
        "shapes": SHAPES,
        "start": flat(start),
        "grads": [flat(step) for step in grads],
        "cases": cases,
    }
    Path(__file__).with_name("optimizers.json").write_text(json.dumps(out) + "\n")


if __name__ == "__main__":
    main()
