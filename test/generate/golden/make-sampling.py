"""Golden values of the sampling filters, from Hugging Face transformers: python make-sampling.py > sampling.json"""
import json

import torch
import transformers
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

torch.manual_seed(0)
settings = [
    {},
    {"temperature": 0.7},
    {"topK": 5},
    {"topP": 0.9},
    {"topP": 0.05},
    {"minP": 0.1},
    {"repetitionPenalty": 1.3},
    {"repetitionPenalty": 0.8},
    {"topK": 20, "topP": 0.8},
    {"temperature": 1.5, "topK": 12, "topP": 0.95, "minP": 0.05},
    {"repetitionPenalty": 1.2, "temperature": 0.6, "topK": 30, "topP": 0.7},
]
cases = []
for size, scale in [(8, 1.0), (40, 3.0), (300, 2.0)]:
    logits = (torch.randn(1, size) * scale).float()
    seen = torch.randint(0, size, (1, 6))
    ties = logits.clone()
    ties[0, 1] = ties[0, 3] = ties[0].topk(3).values[-1]  # equals of the third
    for values, kind in [(logits, "random"), (ties, "ties")]:
        for options in settings if kind == "random" else [{"topK": 3}, {"minP": 0.3}]:
            processors = LogitsProcessorList()
            if "repetitionPenalty" in options:
                processors.append(RepetitionPenaltyLogitsProcessor(options["repetitionPenalty"]))
            if "temperature" in options:
                processors.append(TemperatureLogitsWarper(options["temperature"]))
            if "topK" in options:
                processors.append(TopKLogitsWarper(options["topK"]))
            if "topP" in options:
                processors.append(TopPLogitsWarper(options["topP"]))
            if "minP" in options:
                processors.append(MinPLogitsWarper(options["minP"]))
            probabilities = processors(seen, values.clone()).softmax(-1)[0]
            kept = probabilities.nonzero()[:, 0].tolist()
            cases.append(
                {
                    "options": options,
                    "logits": values[0].tolist(),
                    "seen": seen[0].tolist(),
                    "ids": kept,
                    "probabilities": [round(p, 8) for p in probabilities[kept].tolist()],
                }
            )
# one list of logits per line of cases would repeat them: store each once
distinct = []
for case in cases:
    if case["logits"] not in distinct:
        distinct.append(case["logits"])
    case["logits"] = distinct.index(case["logits"])
lines = ",\n".join(json.dumps(case) for case in cases)
numbers = ",\n".join(json.dumps([float(f"{x:.9g}") for x in values]) for values in distinct)
print(f'{{"transformers": "{transformers.__version__}",\n"logits": [\n{numbers}\n],\n"cases": [\n{lines}\n]}}')
