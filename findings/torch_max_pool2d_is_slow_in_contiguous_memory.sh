#!/usr/bin/env bash
# torch 2.13.0 on x86: max_pool2d of contiguous (B, C, H, W) floats takes many times as long as the
# same maxima by torch.maximum, in one thread.
#
# Guess: pooling costs little beside a convolution and runs at the speed of memory. Seen: 698 us for
# (8, 32, 28, 28), against 41 us by two torch.maximum of strided views, and 102 us with
# channels-last memory, copy included. In a pruned network it took longer than the convolutions.
#
# Fails if the values differ, or max_pool2d takes less than three times as long.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.13.0 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" - <<'PYTHON'
import statistics
import time

import torch
from torch.nn import functional

torch.set_num_threads(1)
torch.manual_seed(0)
x = torch.randn(8, 32, 28, 28).relu()


def by_maximum():
    rows = torch.maximum(x[..., ::2, :], x[..., 1::2, :])
    return torch.maximum(rows[..., ::2], rows[..., 1::2])


def seconds(run):
    begun = time.process_time()
    for _ in range(20):
        run()
    return time.process_time() - begun


def pooled():
    return functional.max_pool2d(x, 2)


with torch.inference_mode():
    assert torch.equal(pooled(), by_maximum())
    seconds(pooled), seconds(by_maximum)
    ratio = statistics.median(seconds(pooled) / seconds(by_maximum) for _ in range(15))
print(f"max_pool2d over torch.maximum, time: {ratio:.1f}")
assert ratio > 3
PYTHON
