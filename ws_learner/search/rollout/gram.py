"""Gram matrices of the layers' inputs, the statistics for least-squares regression.

For a layer with unfolded inputs X (D, N), H = X X^T / N. The squared error of weights v instead
of w is (v - w) H (v - w)^T per output row, independent of N.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs import LayerRow
from ws_learner.data import words_in
from ws_learner.pruning import modules_by_weight

__all__ = ["collect_grams", "unfolded_inputs"]

_POSITIONS = 64


@torch.no_grad()
def collect_grams(
    model: nn.Module,
    batches: Iterable[Tensor],
    *,
    layers: Sequence[LayerRow],
    seed: int,
    positions: int = _POSITIONS,
    pad_id: int | None = None,
) -> list[Tensor]:
    """Compute every layer's Gram matrix by running the dense network on calibration inputs.

    Neighbouring positions of an image are nearly redundant, so at most `positions` of them are
    used, drawn for every batch. A layer then costs 2 x images x positions x D^2 / groups flop in
    addition to the forward pass: 150 GFLOP for ResNet-20 at 512 images, about four training steps
    of 128 images. A layer that runs more than once in a forward pass counts every time. Padding of
    sentences is skipped.

    Args:
        model: Called in evaluation mode; its mode is restored.
        batches: Inputs on the model's device.
        layers: The L layers.
        seed: Seed of the draw of positions.
        positions: Maximum number of spatial positions (or tokens) per example.
        pad_id: Number that pads sentences; None counts every input.

    Returns:
        L float32 tensors (G, D, D), with G groups and D weights per output row.
    """
    modules = modules_by_weight(model, layers)
    sums = [_Accumulator(modules[row.name], row, positions) for row in layers]
    training = model.training
    model.eval()
    with ExitStack() as stack:
        for index, total in enumerate(sums):
            total.generator.manual_seed(seed * 1_000_003 + index)
            stack.callback(total.module.register_forward_pre_hook(total).remove)
        for inputs in batches:
            for total in sums:
                total.words = words_in(inputs, pad_id=pad_id)
            model(inputs)
    model.train(training)
    return [total.mean() for total in sums]


class _Accumulator:
    """Forward pre-hook that sums one layer's Gram matrix, in float64 across batches."""

    def __init__(self, module: nn.Module, row: LayerRow, positions: int) -> None:
        self.module, self.positions = module, positions
        self.generator = torch.Generator()
        groups = getattr(module, "groups", 1)
        width = row.weights // row.shape[0]
        device = next(module.parameters()).device
        self.total = torch.zeros(groups, width, width, dtype=torch.float64, device=device)
        self.count = 0
        self.words: Tensor | None = None  # (B, T) of the batch, False at padding

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        columns = unfolded_inputs(module, args[0], self.positions, self.generator, self.words)
        columns = columns.float()
        self.total += columns.mT @ columns
        self.count += columns.shape[1]

    def mean(self) -> Tensor:
        return (self.total / max(self.count, 1)).float()


def unfolded_inputs(
    module: nn.Module,
    inputs: Tensor,
    positions: int | None = None,
    generator: torch.Generator | None = None,
    words: Tensor | None = None,
) -> Tensor:
    """Input vectors of the layer's weight rows, (G, N, D).

    Args:
        module: Conv1d, Conv2d (any stride, padding, dilation, groups) or Linear.
        inputs: The module's input: (B, C, *spatial) or (B, *any, D).
        positions: Maximum number of positions per example; None uses all.
        generator: Generator for the positions, which are the same for all examples of the batch.
        words: (B, T) False at padding, which is dropped from inputs (B, T, D).
    """
    if isinstance(module, nn.Linear):
        tokens = inputs.reshape(inputs.shape[0], -1, inputs.shape[-1])
        chosen = _choose(tokens.shape[1], positions, generator)
        chosen = chosen.to(inputs.device)
        if words is not None and words.shape == inputs.shape[:-1]:
            return tokens[:, chosen][words[:, chosen]][None]
        return tokens[:, chosen].reshape(1, -1, inputs.shape[-1])
    if not isinstance(module, nn.Conv1d | nn.Conv2d):
        raise TypeError(f"{type(module).__name__}: only Conv1d, Conv2d and Linear are supported")
    return _conv_inputs(module, inputs, positions, generator)


def _conv_inputs(
    module: nn.Conv1d | nn.Conv2d,
    inputs: Tensor,
    positions: int | None,
    generator: torch.Generator | None,
) -> Tensor:
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    patches = functional.pad(inputs, _padding(module), mode=mode)
    dims = len(module.kernel_size)
    for axis in range(dims):  # a view (B, C, *spatial, *kernel): nothing is copied yet
        kernel, dilation = module.kernel_size[axis], module.dilation[axis]
        extent = dilation * (kernel - 1) + 1
        patches = patches.unfold(2 + axis, extent, module.stride[axis])[..., ::dilation]
    shape = patches.shape[2 : 2 + dims]
    chosen = _choose(shape.numel(), positions, generator).to(inputs.device)
    index: tuple[slice | Tensor, ...] = (slice(None), slice(None))
    index += tuple(torch.unravel_index(chosen, shape))
    taken = patches[index].flatten(3)  # (B, C, P, kernel)
    batch, channels, count, size = taken.shape
    split = taken.reshape(batch, module.groups, channels // module.groups, count, size)
    return split.permute(1, 0, 3, 2, 4).reshape(module.groups, batch * count, -1)


def _padding(module: nn.Conv1d | nn.Conv2d) -> list[int]:
    """Amounts for `functional.pad`: last axis first, before and after."""
    pads: list[int] = []
    for axis in reversed(range(len(module.kernel_size))):
        if isinstance(module.padding, str):
            same = module.padding == "same"
            total = module.dilation[axis] * (module.kernel_size[axis] - 1) if same else 0
            pads += [total // 2, total - total // 2]
        else:
            pads += [module.padding[axis]] * 2
    return pads


def _choose(count: int, most: int | None, generator: torch.Generator | None) -> Tensor:
    if most is None or count <= most:
        return torch.arange(count)
    return torch.randperm(count, generator=generator)[:most].sort().values
