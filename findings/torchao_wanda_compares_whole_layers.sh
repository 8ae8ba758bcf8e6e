#!/usr/bin/env bash
# torchao 0.18.0 with torch 2.13.0: `WandaSparsifier` compares weights over the whole layer, not
# within an output.
#
# Guess: as in the paper (Sun et al., ICLR 2024, section 3), whose main result is that weights have
# to be compared within each output, every row of a layer loses the same share. Seen: the layer as a
# whole has 75 % zeros; its rows have between half and all of theirs.
#
# Fails if this version's behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.13.0 torchao==0.18.0 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" - 2>"$folder/warnings" <<'PYTHON' || { cat "$folder/warnings"; exit 1; }
import torch
from torchao.sparsity import WandaSparsifier

torch.manual_seed(0)
layer = torch.nn.Linear(16, 8, bias=False)
layer.weight.data *= torch.linspace(0.2, 2.0, 8)[:, None]  # outputs of different sizes
model = torch.nn.Sequential(layer)
inputs, weight = torch.randn(64, 16), layer.weight.detach().clone()
sparsifier = WandaSparsifier(sparsity_level=0.75)
sparsifier.prepare(model, config=[{"tensor_fqn": "0.weight"}])
model(inputs)
sparsifier.step()
sparsifier.squash_mask()
zero = model[0].weight == 0
metric = weight.abs() * inputs.norm(dim=0)
paper = torch.zeros_like(zero).scatter(1, metric.argsort(1)[:, :12], True)
print("zeros in each row of 16, torchao:", zero.sum(1).tolist())
print("zeros in each row of 16, paper:  ", paper.sum(1).tolist())
assert int(zero.sum()) == int(paper.sum()) == 96
assert int(zero[0].sum()) == 16 and int(zero[-1].sum()) < 12
PYTHON
