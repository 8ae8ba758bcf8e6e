"""Structured shrink: remove zero channels, neurons and heads from the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.core import UserError
from ws_learner.deploy.copies import copy_of, unwrapped
from ws_learner.deploy.other_inputs import (
    first_difference,
    first_examples,
    longer_inputs,
    most_difference,
    noisy_inputs,
    other_inputs,
)
from ws_learner.deploy.shrinking.channel_sets import ChannelSet, find_channel_sets
from ws_learner.deploy.shrinking.constant_folding import fold, merge
from ws_learner.deploy.shrinking.fused_heads import shrink_fused_heads
from ws_learner.deploy.shrinking.report import Obstacle, RemovedChannels, obstacle, say_obstacles
from ws_learner.deploy.shrinking.snapshot import Snapshot
from ws_learner.deploy.shrinking.split_attention import split_where_possible
from ws_learner.deploy.shrinking.tracing import call_model
from ws_learner.pruning import ATTENTION_WIDTHS, HEAD_COUNTS

__all__ = ["Obstacle", "RemovedChannels", "Shrunk", "shrink"]

_MOST_PASSES = 50
_STAY = "dead channels stay: "
_WHOLE = (
    "an nn.MultiheadAttention with add_bias_kv, add_zero_attn, hooks or its own forward cannot be "
    "split into layers, so that its heads and the channels around it stay"
)
_NO_CONSTANT = (
    "what they carry is no constant: it depends on the position, on the size of the inputs, or on "
    "what is added"
)
_NOTHING = (
    "no layer can be followed to the outputs: they are detached, or the network is scripted, "
    "traced or quantised"
)


@dataclass(frozen=True, eq=False)
class Shrunk:
    """A smaller network.

    Attributes:
        model: Of the same class and module names, in evaluation mode; tensors are smaller, and a
            layer may have gained a bias.
        cuts: One entry for each set of channels that could be told apart.
        original: Shapes of the tensors before, by name.
        obstacles: Dead channels that had to stay: where, and why.
    """

    model: nn.Module
    cuts: tuple[RemovedChannels, ...]
    original: Mapping[str, tuple[int, ...]]
    obstacles: tuple[Obstacle, ...] = ()


def shrink(model: nn.Module, example: Tensor | Sequence[Any] | Mapping[str, Any]) -> Shrunk:
    """Remove channels that never reach the output; the outputs in evaluation mode stay the same.

    They are compared on the example and on others: of other sign and size, with noise, longer, and
    of another number of examples. A forward pass that branches on such things is traced on one of
    its paths only.

    A channel is removed if nothing reads it (all readers' weights for it are zero), or if all that
    makes it is zero. In the second case it may still carry a constant: the layer's bias, or the
    output of batch norm and activation for zero. The constant is read off a forward pass and folded
    into its readers' biases. Where a reader pads with zeros a bias cannot stand for it; then all
    constant channels of the set are merged into one. An attention head goes as a whole. The order
    of what remains is kept, and no random number is drawn.

    Couplings (residual sums, flattening, concatenation, depthwise convolutions) are found by
    Torch-Pruning's dependency graph (Fang et al., CVPR 2023). Where channels meet an operation that
    is not known to keep them apart they stay, and so they do where the network does not run or
    gives other outputs without them; `obstacles` and a printed line say where and why. Sets that
    pass through a layer norm, a grouped convolution or the output stay whole.
    `nn.MultiheadAttention` keeps q, k and v in one square tensor, which cannot lose a head; it is
    replaced by a `SplitAttention`.

    Args:
        model: Not changed. What `torch.compile` or data parallelism wraps is shrunk inside.
        example: One input, several in a sequence, or keyword arguments.

    Returns:
        The smaller network, what was removed, and what stood in the way.

    Raises:
        UserError: The package torch-pruning is not installed, the network does not run on the
            example, or its outputs are others on other inputs only.
    """
    dense = copy_of(model).eval()
    network, prefix = unwrapped(dense)
    arguments = _arguments(example)
    _run(network, arguments)
    original = {
        name: tuple(tensor.shape)
        for name, tensor in dense.state_dict().items()
        if isinstance(tensor, Tensor)
    }
    for careful in (False, True):
        whole = copy_of(dense)
        work = _Work(network, unwrapped(whole)[0], arguments, careful=careful)
        try:
            found = work.finish()
        except UserError:
            raise
        except Exception as error:  # of a network that a wrong cut has spoilt, or of any other
            found = _line(error)
        if not found:
            break
    else:
        if not work.traced:
            unknown = obstacle("", f"the network cannot be traced ({found})")
            say_obstacles([unknown])
            return Shrunk(dense, (), original, (unknown,))
        raise UserError(
            f"shrink: without its zero channels {type(network).__name__} is another network: "
            f"{found}; its forward pass may depend on values or on the number of examples; "
            "keep the zeros instead"
        )
    cuts, obstacles = work.report(prefix)
    if not cuts and original:
        obstacles = (*obstacles, obstacle("", _NOTHING))
    say_obstacles(obstacles)
    if all(cut.before == cut.after for cut in cuts):
        whole = dense
    _as_before(whole, model)
    return Shrunk(whole, cuts, original, obstacles)


def _run(model: nn.Module, arguments: Any) -> None:
    """A first pass, which gives lazy layers their tensors."""
    try:
        with torch.no_grad():
            call_model(model, arguments)
    except Exception as error:  # whatever a forward pass raises
        raise UserError(
            f"shrink: {type(model).__name__} does not run on the example ({_line(error)}); give "
            "`example` as the network takes it: a tensor, several in a tuple, or keywords in a dict"
        ) from error


def _line(error: Exception) -> str:
    text = (str(error).strip().splitlines() or [""])[0]
    plain = isinstance(error, UserError | RuntimeError) and text
    return text if plain else f"{type(error).__name__}: {text}".rstrip(": ")


def _as_before(slim: nn.Module, model: nn.Module) -> None:
    """Freeze what was frozen."""
    before = dict(model.named_parameters())
    for name, parameter in slim.named_parameters():
        if name in before and parameter.requires_grad != before[name].requires_grad:
            parameter.requires_grad_(before[name].requires_grad)


class _Work:
    """One attempt: set after set, as often as that finds dead channels."""

    def __init__(self, dense: nn.Module, slim: nn.Module, arguments: Any, *, careful: bool) -> None:
        """Prepare `slim`, a copy of `dense`; `careful` tries every cut by itself."""
        self.dense, self.slim, self.arguments, self.careful = dense, slim, arguments, careful
        self.traced = False
        self._refused: dict[str, Obstacle] = {}
        for name in split_where_possible(slim):
            self._refused[name] = obstacle(name, _WHOLE)
        for parameter in slim.parameters():
            if parameter.is_floating_point() or parameter.is_complex():
                parameter.requires_grad_(True)
        self._examples = [arguments, *self._others()]
        self._last: dict[str, RemovedChannels] = {}
        self._first: dict[str, int] = {}
        self._most = most_difference(dense)

    def _others(self) -> list[Any]:
        """A few examples with noise, and longer along the last dimension that can be."""
        few = first_examples(self.arguments, 2)
        base = few if self._takes(few) else self.arguments
        noisy = [x for _, x in noisy_inputs(base) if self._takes(x)]
        return noisy + [x for _, x in longer_inputs(base) if self._takes(x)][-1:]

    def _takes(self, inputs: Any) -> bool:
        try:
            with torch.no_grad():
                call_model(self.dense, inputs)
        except Exception:  # whatever a forward pass raises
            return False
        return True

    def finish(self) -> str | None:
        """Remove what can be removed; return how the networks differ, if they do."""
        for cut in shrink_fused_heads(self.slim, self.arguments):
            self._last[cut.layer], self._first[cut.layer] = cut, cut.before
        fused = set(self._last)
        for _ in range(_MOST_PASSES):
            if not self._one_pass(fused):
                break
        kinds = (other_inputs, noisy_inputs, longer_inputs)
        return next(filter(None, map(self._difference, kinds)), None)

    def _one_pass(self, fused: set[str]) -> bool:
        """Go through the sets; return whether another pass may find more."""
        removed = False
        for channels in find_channel_sets(self.slim, self._examples):
            self.traced = True
            before = self._first.setdefault(channels.name, channels.count)
            if channels.name in self._refused:
                continue
            gone, note = self._try(channels)
            removed |= gone > 0
            if channels.name not in fused:
                self._last[channels.name] = RemovedChannels(
                    layer=channels.name, before=before, after=channels.count - gone, note=note
                )
            if channels.name in self._refused:
                return True  # the graph is no longer that of the network
        self.traced = True
        return removed

    def _try(self, channels: ChannelSet) -> tuple[int, str]:
        """Cut, and undo it if it fails."""
        before = Snapshot(self.slim, channels.layers())
        try:
            gone, note = _cut(channels)
            found = self._difference(_alike(self._examples)) if gone and self.careful else None
        except Exception as error:  # of channels that the graph mixes up
            gone, found = 0, _line(error)
        if not found:
            return gone, note
        before.restore()
        reason = f"without them {found}"
        self._refused[channels.name] = obstacle(channels.name, reason)
        return 0, f"dead channels stay: {reason}"

    def _difference(self, inputs_of: Any) -> str | None:
        return first_difference(
            lambda inputs: call_model(self.dense, inputs),
            lambda inputs: call_model(self.slim, inputs),
            self.arguments,
            most=self._most,
            inputs_of=inputs_of,
        )

    def report(self, prefix: str) -> tuple[tuple[RemovedChannels, ...], tuple[Obstacle, ...]]:
        """What was removed, and what stood in the way; names begin with `prefix`."""
        names = [name for name in self._first if name in self._last]
        cuts = tuple(replace(self._last[name], layer=f"{prefix}{name}") for name in names)
        obstacles = [replace(o, layer=f"{prefix}{o.layer}") for o in self._refused.values()]
        known = {obstacle.layer for obstacle in obstacles}
        obstacles += [
            obstacle(cut.layer, cut.note.removeprefix(_STAY))
            for cut in cuts
            if cut.note.startswith(_STAY) and cut.layer not in known
        ]
        return cuts, tuple(obstacles)


def _alike(examples: Sequence[Any]) -> Any:
    """The example itself and longer ones, as `first_difference` takes them."""
    return lambda _: [("like the example", x) for x in examples]


def _arguments(example: Any) -> Any:
    if isinstance(example, Mapping):
        return dict(example)
    return (example,) if isinstance(example, Tensor) else tuple(example)


@torch.no_grad()
def _cut(channels: ChannelSet) -> tuple[int, str]:
    """Remove the dead ones of a set; return how many, and why others stay."""
    if channels.obstacle:
        dead = bool(channels.dead().any())
        return 0, f"{_STAY}{channels.obstacle}" if dead else ""
    removable = channels.removable()
    mergeable = channels.mergeable() & ~removable
    note = "one carries a constant past zero padding" if bool(mergeable.any()) else ""
    if bool((channels.dead() & ~removable & ~mergeable).any()):
        note = note or f"{_STAY}{_NO_CONSTANT}"
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
