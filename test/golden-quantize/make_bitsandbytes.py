"""Writes bitsandbytes.safetensors: a weight quantised to NF4 with double quantisation by bitsandbytes on the CPU.

pip install bitsandbytes==0.49.0 torch safetensors; python test/golden-quantize/make_bitsandbytes.py
"""
import os

import bitsandbytes.functional as bnb
import torch
from safetensors.torch import save_file

torch.manual_seed(0)
# 300 groups of 64: two blocks of scales, the second one short. Rows of different sizes, a group of zeros, an outlier.
weight = (torch.randn(150, 128) * torch.linspace(0.5, 2, 150)[:, None] * 0.02).to(torch.bfloat16)
weight[3, :64] = 0
weight[10, 5] = 1.5
codes, state = bnb.quantize_4bit(weight.float(), blocksize=64, compress_statistics=True, quant_type="nf4")
restored = bnb.dequantize_4bit(codes, state)
save_file(
    {
        "weight": weight,
        "codes": codes.flatten().view(torch.int32),  # two a byte, the first in the upper half
        "scale_codes": state.absmax.to(torch.int32),
        "scale_maxima": state.state2.absmax,
        "scale_values": state.state2.code,
        "offset": state.offset.reshape(1),
        "restored": restored[::5].contiguous(),
    },
    os.path.join(os.path.dirname(__file__), "bitsandbytes.safetensors"),
)
