#!/usr/bin/env bash
# accelerate 1.15.0 with torch 2.13.0: a fused AdamW step that the gradient scaler leaves out is
# reported as done.
#
# Guess: `AcceleratedOptimizer.step_was_skipped` is True after a gradient overflows, whatever the
# optimizer. Seen: the weights stay as they were both times, but under `fused=True` it is False.
# The scaler leaves skipping to a fused optimizer, whose `step` is called, and accelerate looks at
# whether `step` was called. Schedules that ask it go on. transformers' default is
# `adamw_torch_fused`.
#
# Fails if either version's behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.13.0 accelerate==1.15.0 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" - <<'PYTHON'
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer

Accelerator(cpu=True)
seen = {}
for fused in (False, True):
    layer = torch.nn.Linear(2, 1)
    optimizer = AcceleratedOptimizer(
        torch.optim.AdamW(layer.parameters(), fused=fused), scaler=torch.amp.GradScaler("cpu")
    )
    before = layer.weight.detach().clone()
    loss = layer(torch.full((1, 2), float("inf"))).sum()
    optimizer.scaler.scale(loss).backward()
    optimizer.step()
    assert torch.equal(before, layer.weight), "the step was made"
    seen[fused] = optimizer.step_was_skipped
print("step_was_skipped after an overflow:", seen)
assert seen == {False: True, True: False}, seen
PYTHON
