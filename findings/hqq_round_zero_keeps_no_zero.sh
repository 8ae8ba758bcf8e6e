#!/usr/bin/env bash
# hqq 0.2.8.post1 with torch 2.13.0: `round_zero=True` does not keep a pruned network's zeros.
#
# Guess: `round_zero`, which the 4-bit default sets, rounds each group's zero point to a whole
# number, so that a weight of zero falls on a level. Seen: the zero point is rounded first and then
# moved by the half-quadratic optimisation, which ends with fractions: no zero of a half-empty
# matrix is left. Only `optimize=False` with `round_zero=True` keeps them.
#
# Fails if this version's behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.13.0 hqq==0.2.8.post1 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" - <<'PYTHON'
import torch
from hqq.core.quantize import BaseQuantizeConfig, Quantizer

torch.manual_seed(0)
weight = torch.randn(64, 512)
empty = torch.rand(64, 512) < 0.5
weight[empty] = 0
assert BaseQuantizeConfig(nbits=4, group_size=64)["weight_quant_params"]["round_zero"] is True
seen = {}
for optimize in (True, False):
    for round_zero in (True, False):
        packed, meta = Quantizer.quantize(
            weight, nbits=4, axis=1, group_size=64, device="cpu", compute_dtype=torch.float32,
            optimize=optimize, round_zero=round_zero,
        )
        back = Quantizer.dequantize(packed, meta)
        kept = float((back[empty] == 0).float().mean())
        seen[f"optimize={optimize}, round_zero={round_zero}"] = kept
print("share of the zeros that are still zero:", seen)
assert list(seen.values()) == [0.0, 0.0, 1.0, 0.0], seen
PYTHON
