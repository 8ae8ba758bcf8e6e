#!/usr/bin/env bash
# nncf 3.4.0 with torch 2.13.0: `nncf.prune` prunes embeddings, and leaves GRUs and GPT-2's layers
# dense, without a line.
#
# Guess: it prunes what multiplies, as other pruning tools: linear layers, convolutions, recurrent
# layers, and `Conv1D`, which is GPT-2's linear layer; an embedding is looked up and stays. Seen: at
# a ratio of 0.5 the embedding is half zero. Both matrices of the GRU and that of `Conv1D` (a call
# of `addmm`) have no mask; nothing says so, and the ratio of the network is another than asked for.
#
# Fails if this version's behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.13.0 nncf==3.4.0 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" - 2>"$folder/warnings" <<'PYTHON' || { cat "$folder/warnings"; exit 1; }
import logging

import nncf
import torch
from nncf.parameters import PruneMode
from nncf.torch.function_hook.pruning.magnitude.algo import get_pruned_modules


class Conv1D(torch.nn.Module):
    """As in transformers."""

    def __init__(self, outputs, inputs):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(inputs, outputs))
        self.bias = torch.nn.Parameter(torch.zeros(outputs))

    def forward(self, x):
        flat = torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight)
        return flat.view(*x.shape[:-1], -1)


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(32, 16)
        self.linear = torch.nn.Linear(16, 16)
        self.conv1d = Conv1D(16, 16)
        self.gru = torch.nn.GRU(16, 16, batch_first=True)

    def forward(self, tokens):
        return self.gru(self.conv1d(self.linear(self.embedding(tokens))))[0]


nncf.set_log_level(logging.ERROR)
torch.manual_seed(0)
tokens = torch.randint(0, 32, (2, 8))
model = nncf.prune(
    Network(), PruneMode.UNSTRUCTURED_MAGNITUDE_LOCAL, ratio=0.5, examples_inputs=(tokens,)
)
pruned = {
    name: round(float((~mask.binary_mask).float().mean()), 2)
    for name, mask in get_pruned_modules(model).items()
}
print("nncf", nncf.__version__)
print("masked, with the share of zeros:", pruned)
assert pruned == {"embedding.weight": 0.5, "linear.weight": 0.5}, pruned
PYTHON
