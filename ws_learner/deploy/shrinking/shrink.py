"""Structured shrink: remove zero channels, neurons and heads from the network."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.core import UserError
from ws_learner.deploy.other_inputs import first_difference
from ws_learner.deploy.shrinking.channel_sets import ChannelSet, call_model, find_channel_sets
from ws_learner.deploy.shrinking.constant_folding import fold, merge
from ws_learner.deploy.shrinking.fused_heads import shrink_fused_heads
from ws_learner.deploy.shrinking.report import RemovedChannels
from ws_learner.deploy.shrinking.split_attention import split_attention
from ws_learner.pruning import ATTENTION_WIDTHS, HEAD_COUNTS

__all__ = ["RemovedChannels", "Shrunk", "shrink"]

_MOST_PASSES = 50


@dataclass(frozen=True, eq=False)
class Shrunk:
    """A smaller network.

    Attributes:
        model: Of the same class and module names, in evaluation mode; tensors are smaller, and a
            layer may have gained a bias.
        cuts: One entry for each set of channels that could be told apart.
        original: Shapes of the tensors before, by name.
    """

    model: nn.Module
    cuts: tuple[RemovedChannels, ...]
    original: Mapping[str, tuple[int, ...]]


def shrink(model: nn.Module, example: Tensor | Sequence[Any] | Mapping[str, Any]) -> Shrunk:
    """Remove channels that never reach the output; the outputs in evaluation mode stay the same.

    They are compared on the example and on others: of other sign and size, and of another number
    of examples. A forward pass that branches on such things is traced on one of its paths only.

    A channel is removed if nothing reads it (all readers' weights for it are zero), or if all that
    makes it is zero. In the second case it may still carry a constant: the layer's bias, or the
    output of batch norm and activation for zero. The constant is read off a forward pass and folded
    into its readers' biases. Where a reader pads with zeros a bias cannot stand for it; then all
    constant channels of the set are merged into one. An attention head goes as a whole. The order
    of what remains is kept, and no random number is drawn.

    Couplings (residual sums, flattening, concatenation, depthwise convolutions) are found by
    Torch-Pruning's dependency graph (Fang et al., CVPR 2023). Sets that pass through a layer norm,
    a grouped convolution or the output stay whole. `nn.MultiheadAttention` keeps q, k and v in one
    square tensor, which cannot lose a head; it is replaced by a `SplitAttention`.

    Args:
        model: Not changed. Its modules must not depend on channel counts beyond their own tensors
            and an attention module's number of heads.
        example: One input, several in a sequence, or keyword arguments.

    Returns:
        The smaller network and what was removed.

    Raises:
        UserError: The package torch-pruning is not installed, or the smaller network does not run
            or gives other outputs.
    """
    slim, dense = copy.deepcopy(model).eval(), copy.deepcopy(model).eval()
    split_attention(slim)
    for parameter in slim.parameters():
        parameter.requires_grad_(True)
    arguments = _arguments(example)
    last = {cut.layer: cut for cut in shrink_fused_heads(slim, arguments)}
    fused = {name: cut.before for name, cut in last.items()}
    first = dict(fused)
    for _ in range(_MOST_PASSES):
        removed = 0
        for channels in find_channel_sets(slim, arguments):
            before = first.setdefault(channels.name, channels.count)
            gone, note = _cut(channels)
            removed += gone
            if channels.name in fused:
                continue
            last[channels.name] = RemovedChannels(
                layer=channels.name, before=before, after=channels.count - gone, note=note
            )
        if not removed:
            break
    _compare(dense, slim, arguments)
    original = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return Shrunk(slim, tuple(last[name] for name in first), original)


def _compare(dense: nn.Module, slim: nn.Module, arguments: Any) -> None:
    found = first_difference(
        lambda inputs: call_model(dense, inputs), lambda inputs: call_model(slim, inputs), arguments
    )
    if found:
        raise UserError(
            f"shrink: without its zero channels {type(dense).__name__} is another network: "
            f"{found}; its forward pass may depend on values or on the number of examples; "
            "keep the zeros instead"
        )


def _arguments(example: Tensor | Sequence[Any] | Mapping[str, Any]) -> Any:
    if isinstance(example, Mapping):
        return dict(example)
    return (example,) if isinstance(example, Tensor) else tuple(example)


@torch.no_grad()
def _cut(channels: ChannelSet) -> tuple[int, str]:
    """Remove the dead ones of a set; return how many, and why others stay."""
    if channels.obstacle:
        dead = bool(channels.dead().any())
        return 0, f"dead channels stay: {channels.obstacle}" if dead else ""
    removable = channels.removable()
    mergeable = channels.mergeable() & ~removable
    note = "one carries a constant past zero padding" if bool(mergeable.any()) else ""
    if int(mergeable.sum()) > 1:
        keeper = merge(channels, mergeable)
        removable |= mergeable
        removable[keeper] = False
    removable = _whole(removable, channels.unit)
    if bool(removable.all()):
        removable[: channels.unit] = False
    if not bool(removable.any()):
        return 0, note
    fold(channels, removable)
    gone = torch.nonzero(removable).flatten().tolist()
    channels.prune(gone)
    _tell_parent(channels, len(gone))
    return len(gone), note


def _whole(flags: Tensor, unit: int) -> Tensor:
    """Only units (heads) with all channels flagged."""
    return flags.reshape(-1, unit).all(1).repeat_interleave(unit)


def _tell_parent(channels: ChannelSet, gone: int) -> None:
    """Update the number of heads of an attention module."""
    parent = channels.attention
    if parent is None:
        return
    for name in HEAD_COUNTS:
        if isinstance(getattr(parent, name, None), int):
            setattr(parent, name, getattr(parent, name) - gone // channels.unit)
    for name in ATTENTION_WIDTHS:
        if getattr(parent, name, None) == channels.count:
            setattr(parent, name, channels.count - gone)
