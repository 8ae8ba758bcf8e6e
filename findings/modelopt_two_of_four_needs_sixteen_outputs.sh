#!/usr/bin/env bash
# nvidia-modelopt 0.47.0 with torch 2.13.0: 2:4 sparsity leaves a layer of 10 outputs dense, without
# a line.
#
# Guess: `sparsify(model, "sparse_magnitude")` makes every linear layer 2:4 whose inputs are a
# multiple of four. Seen: of 16 x 16, 16 x 10, 20 x 16 and 64 x 100 only the first becomes sparse.
# Others get a mask of ones and are exported dense; the head of a ten-class network is one of them.
# requests and huggingface-hub are installed because modelopt imports them without declaring them.
#
# Fails if this version's behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.13.0 nvidia-modelopt==0.47.0 numpy==2.4.6 requests==2.34.2 huggingface-hub==2.4.0
cd "$folder"
"$folder/env/bin/python" - 2>"$folder/warnings" <<'PYTHON' || { cat "$folder/warnings"; exit 1; }
import modelopt.torch.sparsity as sparsity
import torch

torch.manual_seed(0)
seen = {}
for inputs, outputs in ((16, 16), (16, 10), (20, 16), (64, 100)):
    model = torch.nn.Sequential(torch.nn.Linear(inputs, outputs))
    sparse = sparsity.export(sparsity.sparsify(model, "sparse_magnitude"))
    seen[inputs, outputs] = float((sparse[0].weight == 0).float().mean())
print("zeros by (inputs, outputs):", seen)
assert seen == {(16, 16): 0.5, (16, 10): 0.0, (20, 16): 0.0, (64, 100): 0.0}, seen
PYTHON
