#!/usr/bin/env bash
# torchao 0.18.0 with torch 2.13.0: `Float8WeightOnlyConfig` turns an output whose weights are all
# zero into NaN.
#
# Guess: a row of zeros stays a row of zeros, whatever its scale; the integer and MX formats of the
# same library keep it. Seen: the scale of such a row is 0, and 0 / 0 is stored. The layer's output
# is NaN in that place, and the whole network's after the next layer. Outputs pruned by structure
# and not yet removed are such rows.
#
# Fails if this version's behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.13.0 torchao==0.18.0 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" - 2>"$folder/warnings" <<'PYTHON' || { cat "$folder/warnings"; exit 1; }
import copy

import torch
import torchao
from torchao.quantization import (
    Float8WeightOnlyConfig,
    Int8WeightOnlyConfig,
    IntxWeightOnlyConfig,
    quantize_,
)

torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 8))
net[0].weight.data[:4] = 0
inputs, seen = torch.randn(3, 64), {}
for config in (Int8WeightOnlyConfig(), IntxWeightOnlyConfig(), Float8WeightOnlyConfig()):
    model = copy.deepcopy(net)
    quantize_(model, config)
    weight = model[0].weight.dequantize()
    seen[type(config).__name__] = (int(weight[:4].isnan().sum()), int(model(inputs).isnan().sum()))
print("torchao", torchao.__version__)
print("NaN among the 256 weights of four rows of zeros, and among the 24 outputs:", seen)
assert seen["Int8WeightOnlyConfig"] == seen["IntxWeightOnlyConfig"] == (0, 0), seen
assert seen["Float8WeightOnlyConfig"] == (256, 24), seen
PYTHON
