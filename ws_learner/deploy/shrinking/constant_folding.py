"""Constant folding: move a constant channel into a bias, or into another constant channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ws_learner.deploy.shrinking.channel_sets import ChannelSet, Consumer
from ws_learner.deploy.shrinking.consumers import outputs_first

__all__ = ["fold", "merge"]


def fold(channels: ChannelSet, removed: Tensor) -> None:
    """Add the contribution of the `removed` (C,) channels to each reader's bias.

    A reader without a bias gets one, if there is anything to add. Sums are taken in float64.
    """
    for reader, (value, _) in zip(channels.readers, channels.constants(), strict=True):
        chosen = removed[reader.roots] & ~reader.unread() & (value != 0)
        if bool(chosen.any()):
            _add_bias(reader, columns=reader.columns[chosen], values=value[chosen])


def _add_bias(reader: Consumer, *, columns: Tensor, values: Tensor) -> None:
    layer = reader.layer
    weight = layer.weight.detach()[:, columns].double().flatten(2 - (layer.weight.dim() < 3))
    taps = weight.sum(2) if weight.dim() == 3 else weight  # (O, K)
    extra = taps @ values.double()
    if layer.bias is None:
        layer.bias = nn.Parameter(extra.to(layer.weight.dtype))
    else:
        layer.bias.copy_(layer.bias.double() + extra)


def merge(channels: ChannelSet, members: Tensor) -> int:
    """Let one of the constant `members` (C,) carry them all; return its number.

    Where a reader pads, c_1 w_1 + ... + c_n w_n = c_k (sum of c_i / c_k w_i) at every position.
    The members left over are cleared of weights at such readers; `members` keeps those alone that
    the chosen channel could stand for.
    """
    padded = [
        (reader, value)
        for reader, (value, _) in zip(channels.readers, channels.constants(), strict=True)
        if reader.pads
    ]
    least = torch.full((channels.count,), torch.inf)
    for reader, value in padded:
        size = torch.zeros(channels.count).index_add(0, reader.roots, value.abs().float().cpu())
        least = torch.minimum(least, size)
    keeper = int(least.where(members, torch.tensor(-1.0)).argmax())
    for reader, value in padded:
        at = {int(root): place for place, root in enumerate(reader.roots)}
        base = float(value[at[keeper]]) if keeper in at else 0.0
        live = (value != 0) & ~reader.unread()
        if base == 0:  # it cannot stand for anything here
            members[reader.roots[live]] = False
            continue
        weight = layer_weight(reader)
        for root in set(torch.nonzero(members).flatten().tolist()) & at.keys():
            column, factor = reader.columns[at[root]], float(value[at[root]]) / base
            if root != keeper and factor:
                own = reader.columns[at[keeper]]
                total = weight[:, own].double() + factor * weight[:, column].double()
                weight[:, own] = total.to(weight.dtype)
                weight[:, column] = 0
    members[keeper] = True
    return keeper


def layer_weight(reader: Consumer) -> Tensor:
    """The stored weight, outputs first, to be written to."""
    return outputs_first(reader.layer)
