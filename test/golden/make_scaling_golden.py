"""Writes scaling-law.json: noisy losses, and the fit of Hoffmann et al. 2022 (appendix D.3) to them by scipy's L-BFGS-B.

    python test/golden/make_scaling_golden.py
"""

import itertools
import json
import pathlib

import numpy as np
from scipy.optimize import minimize
from scipy.special import huber, logsumexp

DELTA = 1e-3
random = np.random.default_rng(0)
points = []
for flops in [1e19, 3e19, 1e20, 3e20]:
    for n in [4e7, 1e8, 2.5e8, 6e8, 1.5e9, 4e9]:
        d = flops / (6 * n)
        loss = (1.69 + 406.4 / n**0.34 + 410.7 / d**0.28) * np.exp(2e-3 * random.standard_normal())
        points.append({"parameters": n, "tokens": d, "loss": float(loss)})
log_n, log_d, log_loss = (np.log([p[key] for p in points]) for key in ["parameters", "tokens", "loss"])


def objective(x):
    a, b, e, alpha, beta = x
    fitted = logsumexp([a - alpha * log_n, b - beta * log_d, np.full_like(log_n, e)], axis=0)
    return huber(DELTA, fitted - log_loss).sum() / DELTA**2


def polished(start):
    found = minimize(objective, start, method="L-BFGS-B", options={"maxiter": 500})
    return minimize(objective, found.x, method="Nelder-Mead", options={"maxiter": 4000, "xatol": 1e-10, "fatol": 1e-12})


grid = itertools.product([5], [5], [0, 0.5], [0.2, 0.5], [0.2, 0.5])
starts = sorted((minimize(objective, start, method="L-BFGS-B") for start in grid), key=lambda found: found.fun)[:5]
best = min((polished(found.x) for found in starts), key=lambda found: found.fun)
a, b, e, alpha, beta = best.x
fit = {"objective": best.fun * DELTA**2, "E": np.exp(e), "A": np.exp(a), "B": np.exp(b), "alpha": alpha, "beta": beta}
path = pathlib.Path(__file__).parent / "scaling-law.json"
path.write_text(json.dumps({"points": points} | {key: float(value) for key, value in fit.items()}, indent=1) + "\n")
