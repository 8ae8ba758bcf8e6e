"""Reorders the hidden units of MLPs so that more magnitude survives N:M along the second layer.

The hidden units of `fc2(activation(fc1(x)))` have no order: rows of fc1 (and its bias) and columns
of fc2 may be permuted together, and the outputs stay what they are up to rounding. Which columns of
fc2 share a group of M decides how much magnitude N:M can keep (Pool & Yu, NeurIPS 2021).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.core import say
from ws_learner.deploy.other_inputs import most_difference
from ws_learner.deploy.runtime.output_comparison import differences
from ws_learner.deploy.shrinking.crop import float_outputs
from ws_learner.pruning import NM, weight_roles

__all__ = ["Permuted", "find_mlps", "permute_mlps", "search_permutation"]

_PAIRS = (
    ("fc1", "fc2"),
    ("lin1", "lin2"),
    ("linear1", "linear2"),
    ("intermediate.dense", "output.dense"),
)


@dataclass(frozen=True, kw_only=True)
class Permuted:
    """One MLP.

    Attributes:
        first: Name of the layer that makes the hidden units.
        second: Name of the layer that reads them; its columns are grouped.
        before: Share of the second layer's magnitude that the pattern kept, in [0, 1].
        after: The same after the permutation; never less.
    """

    first: str
    second: str
    before: float
    after: float


def find_mlps(model: nn.Module) -> tuple[tuple[str, str], ...]:
    """Names of (first, second) Linear layers with only elementwise functions between them.

    Found by name, as in `weight_roles`; gated MLPs, with two first layers, are left out.
    """
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    ff = {
        name.removesuffix(".weight") for name, own in weight_roles(model).items() if own == ("ff",)
    }
    found = []
    for name in [name for name, _ in model.named_modules() if name in ff & linear]:
        for first, second in _PAIRS:
            stem = re.fullmatch(rf"(.*?){re.escape(first)}", name)
            other = f"{stem[1]}{second}" if stem else ""
            if other in ff & linear and _fits(model, name, other):
                found.append((name, other))
    return tuple(found)


def _linear(model: nn.Module, name: str) -> nn.Linear:
    module = model.get_submodule(name)
    assert isinstance(module, nn.Linear)
    return module


def _fits(model: nn.Module, first: str, second: str) -> bool:
    one, two = _linear(model, first), _linear(model, second)
    parent = model.get_submodule(first.rpartition(".")[0])
    normed = isinstance(getattr(parent, "norm", None), nn.LayerNorm)  # timm's Mlp may have one
    return one.weight.shape[0] == two.weight.shape[1] and not normed


@torch.no_grad()
def permute_mlps(
    model: nn.Module, pattern: NM, *, rounds: int = 300, example: Any = None
) -> tuple[Permuted, ...]:
    """Permute the hidden units of every MLP in place, before it is pruned or trained.

    An MLP stays as it is, and a line says why, if more than elementwise functions may lie between
    its layers: another tensor with one value per hidden unit, or a weight that is computed or
    shared. `example` finds other reasons too: the outputs are compared.

    Args:
        model: Any; outputs stay what they are up to rounding.
        pattern: N:M along the inputs.
        rounds: Most exchanges of two columns for each MLP.
        example: A tensor, several in a tuple, or keywords, to compare the outputs on; not compared
            without it.
    """
    found = []
    wanted = None if example is None else _outputs(model, example)
    for first, second in find_mlps(model):
        reason = _obstacle(model, first, second)
        if reason:
            say(f"permute_mlps: {first} and {second} stay as they are: {reason}")
            continue
        one, two = _linear(model, first), _linear(model, second)
        order = search_permutation(two.weight, pattern, rounds=rounds)
        before = _kept(two.weight, pattern)
        _reorder(one, two, order)
        if wanted is not None and not _same(_outputs(model, example), wanted, model):
            _reorder(one, two, order.argsort())
            say(
                f"permute_mlps: {first} and {second} stay as they are: the outputs depend on the "
                "order of their hidden units"
            )
            continue
        after = _kept(two.weight, pattern)
        found.append(Permuted(first=first, second=second, before=before, after=after))
    return tuple(found)


def _reorder(one: nn.Linear, two: nn.Linear, order: Tensor) -> None:
    one.weight.copy_(one.weight[order])
    if one.bias is not None:
        one.bias.copy_(one.bias[order])
    two.weight.copy_(two.weight[:, order])


def _outputs(model: nn.Module, example: Any) -> list[Tensor]:
    return float_outputs(model, (example,) if isinstance(example, Tensor) else example)


def _same(got: Sequence[Tensor], wanted: Sequence[Tensor], model: nn.Module) -> bool:
    return differences([(list(got), list(wanted))])["relative_error"] <= most_difference(model)


def _obstacle(model: nn.Module, first: str, second: str) -> str:
    """Why the hidden units may have an order, as far as the modules tell; or empty."""
    layers = [_linear(model, name) for name in (first, second)]
    own = {id(p) for layer in layers for p in layer.parameters(recurse=False)}
    if any(layer._parameters.get("weight") is None for layer in layers):
        return "a weight is computed at each call (weight norm, spectral norm or a mask)"
    holders = [m for m in model.modules() for p in m._parameters.values() if id(p) in own]
    if any(holder not in layers for holder in holders):
        return "a weight is used by other layers too"
    width = layers[1].in_features
    parts = zip(first.split("."), second.split("."), strict=False)
    around = model.get_submodule(".".join(a for a, _ in itertools.takewhile(_equal, parts)))
    for name, tensor in [*around.named_parameters(), *around.named_buffers()]:
        if id(tensor) not in own and width in tensor.shape:
            return f"{name} is as wide as their hidden units and may lie between them"
    return ""


def _equal(pair: tuple[str, str]) -> bool:
    return pair[0] == pair[1]


def _kept(weight: Tensor, pattern: NM) -> float:
    values = weight.abs().double()
    return float((values * pattern.whole_mask(values)).sum() / values.sum().clamp_min(1e-300))


@torch.no_grad()
def search_permutation(weight: Tensor, pattern: NM, *, rounds: int) -> Tensor:
    """Order of the columns of (O, I) that keeps no less magnitude under the pattern than now.

    Greedy: of a group and 32 candidates from the others, drawn by a fixed seed, the exchange of
    columns that gains most is done; ends after a pass over all groups without a gain.

    Args:
        weight: A matrix; its last I mod M columns stay where they are.
        pattern: N:M.
        rounds: Most exchanges.
    """
    values = weight.detach().abs().double()
    count = values.shape[1] // pattern.m
    order = torch.arange(values.shape[1], device=values.device)
    if count < 2:
        return order
    generator = torch.Generator().manual_seed(0)
    moved, left, idle, group = values.clone(), rounds, 0, 0
    while left > 0 and idle < count:
        others = torch.randint(0, count - 1, (min(32, 8 * count),), generator=generator)
        others = others + (others >= group)
        gain, mine, theirs = _best_exchange(moved, pattern, group, others)
        if gain > 1e-9:
            pair = torch.tensor([mine, theirs])
            order[pair] = order[pair.flip(0)]
            moved[:, pair] = moved[:, pair.flip(0)]
            left, idle = left - 1, 0
        else:
            idle += 1
        group = (group + 1) % count
    best, now = _sum(moved, pattern), _sum(values, pattern)
    return order if best >= now else torch.arange(len(order), device=order.device)


def _sum(values: Tensor, pattern: NM) -> float:
    return float((values * pattern.whole_mask(values)).sum())


def _best_exchange(
    values: Tensor, pattern: NM, group: int, others: Tensor
) -> tuple[float, int, int]:
    """Gain and the two columns of the best exchange between a group and one of each other group."""
    m, n = pattern.m, pattern.n
    own = values[:, group * m : (group + 1) * m]
    places = others * m + torch.randint(
        0, m, others.shape, generator=torch.Generator().manual_seed(int(others.sum()))
    )
    starts = others * m
    columns = (starts[:, None] + torch.arange(m)).to(values.device)
    theirs = values[:, columns]  # (O, K, M)
    inside = (places - starts).to(values.device)
    incoming = values[:, places.to(values.device)]  # (O, K)
    held = own.topk(n, dim=1).values.sum() + theirs.topk(n, dim=2).values.sum((0, 2))
    best = (0.0, 0, 0)
    for slot in range(m):
        mine = own[:, None].expand(-1, len(others), -1).clone()
        mine[:, :, slot] = incoming
        changed = theirs.clone()
        index = inside[None, :, None].expand(len(values), -1, 1)
        changed.scatter_(2, index, own[:, slot, None, None].expand(-1, len(others), 1))
        kept = mine.topk(n, dim=2).values.sum((0, 2)) + changed.topk(n, dim=2).values.sum((0, 2))
        gains = kept - held
        choice = int(gains.argmax())
        if float(gains[choice]) > best[0]:
            best = (float(gains[choice]), group * m + slot, int(places[choice]))
    return best
