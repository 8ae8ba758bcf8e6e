"""torchao: quantised weights of masked networks."""

import copy

import torch
from common import example, row, same, share, size
from networks import mlp
from safetensors.torch import load_file
from torchao.quantization import (
    Float8WeightOnlyConfig,
    Int4WeightOnlyConfig,
    Int8DynamicActivationInt8WeightConfig,
    Int8WeightOnlyConfig,
    IntxWeightOnlyConfig,
    quantize_,
)

TOOL = "torchao"
model = mlp()
model.load_state_dict(load_file("nm.safetensors"))
x, y = (torch.from_numpy(part) for part in example("nm"))
row(TOOL, "nm.safetensors", "loads", same(model(x).detach(), y.numpy()))
torch.save(model.state_dict(), "float.pt")
empty = (model[2].weight == 0).detach()
for config in (
    Int8WeightOnlyConfig(),
    Int8DynamicActivationInt8WeightConfig(),
    IntxWeightOnlyConfig(),
    Int4WeightOnlyConfig(),
    Float8WeightOnlyConfig(),
):
    kind = type(config).__name__
    for dead in (False, True):
        changed = copy.deepcopy(model)
        if dead:
            changed[2].weight.data[:8] = 0
        try:
            quantize_(changed, config)
        except Exception as error:
            row(TOOL, "nm.safetensors", kind, f"{type(error).__name__}: {error}"[:80])
            break
        unchanged = type(changed[2].weight) is torch.nn.Parameter
        weight = changed[2].weight if unchanged else changed[2].weight.dequantize()
        weight = weight.detach()
        if dead:
            count = int(weight[:8].isnan().sum())
            row(TOOL, "eight dead outputs", kind, f"{count} of {weight[:8].numel()} weights NaN")
            continue
        if unchanged:
            row(TOOL, "nm.safetensors", kind, "left in floats, without a line")
            break
        torch.save(changed.state_dict(), "small.pt")
        text = f"zeros kept: {share(weight.numpy(), empty.numpy())}; file "
        row(TOOL, "nm.safetensors", kind, text + f"{size('small.pt') / size('float.pt'):.2f}")
