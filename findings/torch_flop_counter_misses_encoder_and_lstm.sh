#!/usr/bin/env bash
# torch 2.13.0: `FlopCounterMode` counts no work at all in a transformer encoder layer that is
# evaluated, nor in an LSTM.
#
# Guess: a network has as many FLOPs in `eval()` as in `train()`; a GRU's are counted exactly, so an
# LSTM's are as well. Seen: evaluated without gradients, `nn.TransformerEncoderLayer` and
# `nn.MultiheadAttention` run as one fused operator that the counter does not know: 0. An LSTM is
# one operator, too, and is 0 in both modes. There is no warning. A network cropped to a budget of
# FLOPs would seem to meet any.
#
# Fails if this version's behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.13.0 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" - 2>"$folder/warnings" <<'PYTHON' || { cat "$folder/warnings"; exit 1; }
import torch
from torch.utils.flop_counter import FlopCounterMode

tokens = torch.randn(2, 10, 32)
encoder = torch.nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
attention = torch.nn.MultiheadAttention(32, 4, batch_first=True)


def count(module, *inputs):
    with FlopCounterMode(display=False) as counter:
        module(*inputs)
    return counter.get_total_flops()


projections = 2 * 20 * (4 * 32 * 32 + 2 * 32 * 64)  # multiply and add, of 20 tokens
print("torch", torch.__version__)
seen = {"encoder, train": count(encoder.train(), tokens)}
with torch.no_grad():
    seen["encoder, eval"] = count(encoder.eval(), tokens)
    seen["attention, eval"] = count(attention.eval(), tokens, tokens, tokens)
    seen["GRU"] = count(torch.nn.GRU(32, 32), tokens)
    seen["LSTM"] = count(torch.nn.LSTM(32, 32), tokens)
print("counted:", seen)
print("projections of the encoder:", projections, " LSTM by hand:", 2 * 20 * 4 * 2 * 32 * 32)
assert seen["encoder, train"] >= projections
assert seen["GRU"] == 2 * 20 * 3 * 2 * 32 * 32, seen
assert seen["encoder, eval"] == seen["attention, eval"] == seen["LSTM"] == 0, seen
PYTHON
