#!/usr/bin/env bash
# Torch-Pruning 1.6.1 with torch 2.13.0: `count_ops_and_params` gives a GRU 33 times its MACs, and
# fewer with a larger batch.
#
# Guess: the counts, which are divided by the batch size, do not depend on the batch; those of linear
# layers and convolutions do not. Seen: the count of a GRU of 61,440 MACs is 2,037,760 with one
# example, half of that with two and a quarter with four. A budget of MACs that is met by these
# counts is not met by the network.
#
# Fails if this version's behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.13.0 torch-pruning==1.6.1 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" - 2>"$folder/warnings" <<'PYTHON' || { cat "$folder/warnings"; exit 1; }
import torch
from torch_pruning.utils import count_ops_and_params


linear = torch.nn.Linear(32, 32, bias=False)
gru = torch.nn.GRU(32, 32, batch_first=True, bias=False)
seen = {}
for batch in (1, 2, 4):
    tokens = torch.randn(batch, 10, 32)
    seen["linear", batch] = count_ops_and_params(linear, tokens)[0]
    seen["GRU", batch] = count_ops_and_params(gru, tokens)[0]
for what, true in (("linear", 10 * 32 * 32), ("GRU", 10 * 3 * 2 * 32 * 32)):
    print(what, "by hand:", true, " counted with 1, 2, 4:", [seen[what, b] for b in (1, 2, 4)])
assert all(seen["linear", batch] == 10 * 32 * 32 for batch in (1, 2, 4)), seen
assert seen["GRU", 1] > 30 * 10 * 3 * 2 * 32 * 32, seen
assert seen["GRU", 1] == 2 * seen["GRU", 2] == 4 * seen["GRU", 4], seen
PYTHON
