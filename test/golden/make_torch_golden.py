"""Writes the PyTorch checkpoints of test/models/torch-checkpoint.test.ts. Run from the repository root:

    python test/golden/make_torch_golden.py

Needs torch and safetensors (written with torch 2.13.0). torch/ has state dicts of awkward tensors, with their values in
expected.safetensors; gpt2-bin/ and gpt2-bin-sharded/ are the models of gpt2-f16-bare/ and gpt2/ as older libraries saved them.
"""

import collections
import json
import os
import shutil

import torch
from safetensors.torch import load_file, save_file

HERE = os.path.dirname(os.path.abspath(__file__))


def folder(name):
    path = os.path.join(HERE, name)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


def tensors():
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6) / 8 - 1
    return {
        "plain": base.clone(),
        "bf16": base.bfloat16(),
        "f16": base.half(),
        "f64": base.double() / 3,
        "i64": torch.tensor([1, -1, 2**40]),
        "i32": torch.tensor([7, -7, 3], dtype=torch.int32),
        "i16": torch.tensor([300, -300], dtype=torch.int16),
        "i8": torch.tensor([5, -5], dtype=torch.int8),
        "u8": torch.tensor([1, 2, 255], dtype=torch.uint8),
        "bool": torch.tensor([True, False, True]),
        "scalar": torch.tensor(3.25),
        "empty": torch.zeros(0, 4),
        # Views of one storage.
        "shared": base,
        "row": base[2],
        "column": base[:, 1],
        "transposed": base.t(),
        "every_other": base[1::2, ::3],
        "permuted": base.reshape(2, 2, 6).permute(2, 0, 1),
        "repeated": base[0, :3].expand(2, 3),
        "one_wide": base[:, 2:3].t(),
        "narrow_transposed": base.bfloat16().t(),
        "parameter": torch.nn.Parameter(base * 2),
    }


def main():
    path = folder("torch")
    named = tensors()
    save_file({name: t.detach().contiguous().clone() for name, t in named.items()}, os.path.join(path, "expected.safetensors"))
    torch.save(named, os.path.join(path, "dict.bin"))
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3))
    torch.manual_seed(0)
    torch.save(collections.OrderedDict(named), os.path.join(path, "protocol-4.pt"), pickle_protocol=4)
    torch.save(collections.OrderedDict(named), os.path.join(path, "protocol-5.pt"), pickle_protocol=5)
    # As a training script saves: the state dict of a module (with its versions as attributes) beside counters.
    with torch.no_grad():
        for i, p in enumerate(module.parameters()):
            p.copy_(torch.arange(p.numel()).reshape(p.shape) + 100 * i)
    torch.save({"epoch": 3, "lr": 1e-3, "done": None, "losses": [2.5, 1.5], "state_dict": module.state_dict()}, os.path.join(path, "training.pth"))
    torch.save(named["plain"], os.path.join(path, "tensor.pt"))
    torch.save({"w": named["plain"]}, os.path.join(path, "legacy.bin"), _use_new_zipfile_serialization=False)
    torch.save({"w": named["plain"].to_sparse()}, os.path.join(path, "sparse.pt"))
    torch.save(module, os.path.join(path, "module.pt"))

    single = folder("gpt2-bin")
    source = os.path.join(HERE, "gpt2-f16-bare")
    shutil.copy(os.path.join(source, "config.json"), single)
    torch.save(load_file(os.path.join(source, "model.safetensors")), os.path.join(single, "pytorch_model.bin"))

    sharded = folder("gpt2-bin-sharded")
    source = os.path.join(HERE, "gpt2")
    shutil.copy(os.path.join(source, "config.json"), sharded)
    weights = load_file(os.path.join(source, "model.safetensors"))
    names = list(weights)
    shards = [names[: len(names) // 2], names[len(names) // 2 :]]
    weight_map = {}
    for i, part in enumerate(shards):
        file = f"pytorch_model-{i + 1:05d}-of-{len(shards):05d}.bin"
        torch.save(collections.OrderedDict((name, weights[name]) for name in part), os.path.join(sharded, file))
        weight_map |= {name: file for name in part}
    index = {"metadata": {"total_size": sum(t.numel() * t.element_size() for t in weights.values())}, "weight_map": weight_map}
    with open(os.path.join(sharded, "pytorch_model.bin.index.json"), "w") as f:
        json.dump(index, f, indent=2)
        f.write("\n")
    for made in (path, single, sharded):
        for entry in os.scandir(made):
            os.chmod(entry, 0o644)


if __name__ == "__main__":
    main()
