#!/usr/bin/env bash
# peft 0.21.2 with torch 2.13.0: after DoRA's `unmerge_adapter` a pruned matrix has fewer zeros.
#
# Guess: `unmerge_adapter` gives the base weights back; where they are zero, (0 + d) - d is exactly
# zero whatever d. Seen: true of LoRA. DoRA scales the sum by a norm and divides again, so that
# about one zero in ten comes back as 1e-8: no loss in accuracy, but masks and sparse formats that
# are made from `weight != 0` change.
#
# Fails if this version's behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.13.0 peft==0.21.2 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" - <<'PYTHON'
import torch
from peft import LoraConfig, get_peft_model

torch.manual_seed(0)
seen = {}
for dora in (False, True):
    net = torch.nn.Sequential(torch.nn.Linear(64, 64))
    empty = torch.rand(64, 64) < 0.5
    net[0].weight.data[empty] = 0
    model = get_peft_model(net, LoraConfig(r=8, target_modules=["0"], use_dora=dora))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_()
    model.merge_adapter()
    model.unmerge_adapter()
    weight = model.base_model.model[0].base_layer.weight[empty].abs()
    seen["DoRA" if dora else "LoRA"] = (float((weight == 0).float().mean()), float(weight.max()))
print("share of zeros that are zero again, and the largest that is not:", seen)
assert seen["LoRA"] == (1.0, 0.0), seen
assert 0.8 < seen["DoRA"][0] < 0.99 and 0 < seen["DoRA"][1] < 1e-6, seen
PYTHON
