#!/usr/bin/env bash
# torch 2.13.0 with onnxscript 0.7.2: half of a small exported ONNX file is a record of the source
# code, with the folders that it lay in.
#
# Guess: an exported file holds the graph and the weights, so that its size is that of the weights
# and it says nothing of the machine. Seen: every node keeps the lines of Python that made it, with
# file names, in `metadata_props`; no engine reads them. Of a file with 4 kB of weights they are more
# than the weights. The file of a network that was made small is then not small.
#
# Fails if these versions' behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 numpy==2.4.6
cd "$folder"
cat >network_of_jane_doe.py <<'PYTHON'
import torch


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(16, 16) for _ in range(4))

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x
PYTHON
"$folder/env/bin/python" - 2>"$folder/warnings" <<'PYTHON' || { cat "$folder/warnings"; exit 1; }
import sys

sys.path.insert(0, ".")
import onnx
import torch
from network_of_jane_doe import Network

torch.onnx.export(Network().eval(), (torch.randn(2, 16),), dynamo=True, verbose=False).save("net.onnx")
model = onnx.load("net.onnx")
weights = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
notes = sum(note.ByteSize() for node in model.graph.node for note in node.metadata_props)
named = b"network_of_jane_doe.py" in open("net.onnx", "rb").read()
print("torch", torch.__version__, "- bytes of weights:", weights, "notes:", notes)
print("names the source file:", named)
assert named and notes > weights > 4000, (named, notes, weights)
PYTHON
