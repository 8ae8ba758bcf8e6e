"""Torch-Pruning: a network whose channels are zero already, and its counts."""

import torch
import torch_pruning
from common import example, row, same
from networks import conv
from safetensors.torch import load_file

TOOL = "torch-pruning"
x, y = (torch.from_numpy(part) for part in example("dead"))
model = conv()
model.load_state_dict(load_file("dead.safetensors"))
row(TOOL, "dead.safetensors", "loads", same(model(x).detach(), y.numpy()))
zero = [~layer.weight.detach().flatten(1).any(1) for layer in (model[0], model[3])]  # filters
macs, parameters = torch_pruning.utils.count_ops_and_params(model, x[:1])
dense = torch_pruning.utils.count_ops_and_params(conv(), x[:1])
row(TOOL, "dead.safetensors", "MACs counted", f"{macs / dense[0]:.2f} of the dense network's")
pruner = torch_pruning.pruner.MagnitudePruner(
    model,
    x[:1],
    importance=torch_pruning.importance.MagnitudeImportance(),
    pruning_ratio=0.5,
    ignored_layers=[model[11], model[6]],
)
removed: dict[str, list[int]] = {}
for group in pruner.step(interactive=True):
    for dependency, index in group:
        layer = dependency.target.module
        if isinstance(layer, torch.nn.Conv2d) and "in_channels" in str(dependency):
            removed[dependency.target.name] = list(index)
    group.prune()
widths = [layer.in_channels for layer in (model[3], model[6])]
row(TOOL, "dead.safetensors", "pruned by half: channels left", str(widths))
for number, ((_, index), dead) in enumerate(zip(sorted(removed.items()), zero, strict=True), 1):
    text = f"dead channels among the {len(index)} that it takes at place {number}"
    row(TOOL, "dead.safetensors", text, f"{int(dead[index].sum())} of {int(dead.sum())}")
row(TOOL, "dead.safetensors", "outputs afterwards", same(model(x).detach(), y.numpy()))
shrunk = load_file("shrunk.safetensors")
shapes = [tuple(shrunk[f"{place}.weight"].shape) for place in (0, 3, 6)]
row(TOOL, "shrunk.safetensors", "shapes that shrink gives, for comparison", str(shapes))
