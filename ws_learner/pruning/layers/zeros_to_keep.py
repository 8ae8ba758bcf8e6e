"""Zeros that an earlier pruning left in a network, which stay zero when it is pruned further."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from envs import LayerRow
from ws_learner.config import METHODS, WeightSparseConfig, parse_pattern_spec
from ws_learner.core import UserError, say
from ws_learner.pruning.layers.layer_plan import build_pattern_plan
from ws_learner.pruning.layers.prunable import some_names
from ws_learner.pruning.patterns.mask import count_zeros
from ws_learner.pruning.patterns.model_plan import PatternPlan
from ws_learner.pruning.patterns.pattern import Pattern, parse_pattern

__all__ = [
    "PRUNED_FROM",
    "masks_to_keep",
    "refuse_fewer_zeros",
    "whole_units",
    "with_kept_zeros",
    "zeros_to_keep",
]

PRUNED_FROM = 0.05
"""Share of zeros from which on a network counts as pruned. Fewer are incidental: rounding to
int8 alone makes some per cent of the weights zero."""


def zeros_to_keep(
    model: nn.Module,
    names: Iterable[str],
    *,
    keep: bool | None,
    plan: PatternPlan | None,
    setting: str = "keep_zeros",
) -> tuple[dict[str, Tensor], str]:
    """Masks of the zeros that stay, True = zero and kept so, and a line that says what was found.

    By default a network counts as pruned if at least `PRUNED_FROM` of its listed weights are
    exactly zero. Left aside are layers that are zero as a whole, as a branch that begins at zero,
    and zero rows of an embedding, as for padding: these are trained.

    Args:
        model: The network.
        names: The weights that are to be pruned.
        keep: True keeps every zero but those left aside; False none; None those of a network that
            counts as pruned.
        plan: The pattern of the weights; None: the method cannot keep zeros.
        setting: The argument, for messages.

    Returns:
        Parameter name -> mask of its shape, weights without such zeros left out; and the line,
        empty if there is nothing to say.

    Raises:
        UserError: `keep` is True, and method or pattern cannot keep the zeros.
    """
    if keep is False:
        return {}, ""
    listed = {name: model.get_parameter(name) for name in names}
    masks = {name: _pruned(model, name, weight) for name, weight in listed.items()}
    found = {name: mask for name, mask in masks.items() if mask is not None}
    zeros = sum(int(mask.sum()) for mask in found.values())
    share = zeros / max(sum(weight.numel() for weight in listed.values()), 1)
    if not zeros or (keep is None and share < PRUNED_FROM):
        return {}, ""
    obstacle = _obstacle(found, listed, plan)
    if obstacle and keep:
        raise UserError(f"`{setting}` True: {obstacle}; leave it out, or choose another")
    if obstacle:
        return {}, (
            f"{share:.1%} of the weights to prune are zero already; {obstacle}, so that they are "
            "trained and pruned anew"
        )
    return found, (
        f"{share:.1%} of the weights to prune are zero already, in {some_names(list(found), 3)}: "
        f"they stay zero and count towards the target (`{setting}` False trains them)"
    )


def with_kept_zeros(
    model: nn.Module, rows: tuple[LayerRow, ...], config: WeightSparseConfig
) -> tuple[LayerRow, ...]:
    """The layer table with the zeros that each layer has and keeps (`least`), with a line.

    A run that starts from scratch keeps none.

    Raises:
        UserError: `ws_keep_zeros` asks for what method or pattern cannot do.
    """
    open_ = [row.name for row in rows if not row.exempt]
    if config.ws_init == "scratch" or config.ws_keep_zeros is False:
        return rows
    plan = None
    if not METHODS[config.ws_method].trains_nm:
        plan = build_pattern_plan(model, open_, pattern=parse_pattern(config.pattern_spelling))
    found, line = zeros_to_keep(
        model, open_, keep=config.ws_keep_zeros, plan=plan, setting="ws_keep_zeros"
    )
    if line:
        say(line)
    counts = {name: int(mask.sum()) for name, mask in found.items()}
    return tuple(replace(row, least=counts.get(row.name, 0)) for row in rows)


def masks_to_keep(
    model: nn.Module, rows: Sequence[LayerRow], config: WeightSparseConfig
) -> dict[str, Tensor]:
    """Masks of the zeros that the layer table keeps, and of those in what is not pruned further.

    The latter are in unlisted tensors and exempt layers. They do not count towards the target, and
    stay only where single weights are pruned, each layer by itself.
    """
    listed = [row.name for row in rows if row.least]
    single = parse_pattern_spec(config.pattern_spelling).kind == "unstructured"
    others = list[str]()
    if listed and single and config.ws_scope == "local":
        pruned = {id(model.get_parameter(row.name)) for row in rows if not row.exempt}
        others = [
            name
            for name, weight in model.named_parameters()
            if weight.ndim > 1 and weight.requires_grad and id(weight) not in pruned
        ]
    every = ((name, model.get_parameter(name)) for name in (*listed, *others))
    masks = {name: _pruned(model, name, weight) for name, weight in every}
    found = {name: mask for name, mask in masks.items() if mask is not None}
    if more := [name for name in others if name in found]:
        say(f"zeros of {some_names(more, 3)} stay too, outside the target")
    return found


def refuse_fewer_zeros(
    zeros: Mapping[str, int],
    kept: Mapping[str, Tensor],
    sizes: Mapping[str, int],
    *,
    together: bool,
    setting: str = "keep_zeros",
) -> None:
    """Refuse targets below the zeros to keep.

    Args:
        zeros: Final number of zeros of each layer.
        kept: Masks of the zeros to keep.
        sizes: Number of weights of each layer.
        together: Only the sum over all layers counts.
        setting: The argument, for messages.

    Raises:
        UserError: A target is below them.
    """
    have = {name: int(mask.sum()) for name, mask in kept.items()}
    pairs = [("all layers together", sum(have.values()), sum(zeros.values()), sum(sizes.values()))]
    if not together:
        pairs = [(name, count, zeros[name], sizes[name]) for name, count in have.items()]
    for where, count, target, size in pairs:
        if target < count:
            raise UserError(
                f"prune ratio {target / size:.4f} for {where}: {count / size:.4f} are zero "
                f"already and stay so; raise it, or give `{setting}` False, which trains them"
            )


def whole_units(weight: Tensor, pattern: Pattern) -> bool:
    """Whether every zero of a weight belongs to a unit of the pattern that is zero as a whole."""
    values = weight.detach()
    sizes = pattern.sizes(tuple(values.shape))
    # The largest of what a unit prunes: of a block all weights, of N:M the M - N smallest.
    pruned = (pattern.pooled(values.abs(), "max") == 0).to(sizes.device) & (sizes > 0)
    return int(sizes[pruned].sum()) == count_zeros(values)


def _pruned(model: nn.Module, name: str, weight: Tensor) -> Tensor | None:
    """Mask of the zeros of a weight, without those left aside; None if there are none."""
    if weight.is_meta or not 0 < count_zeros(weight) < weight.numel():
        return None
    mask = weight.detach() == 0
    if isinstance(model.get_submodule(name.rpartition(".")[0]), nn.Embedding):
        mask &= ~mask.all(1, keepdim=True)
    return mask if bool(torch.any(mask)) else None


def _obstacle(
    found: Mapping[str, Tensor], weights: Mapping[str, Tensor], plan: PatternPlan | None
) -> str:
    """Why the zeros cannot be kept; empty if they can."""
    if plan is None:
        return "this method cannot keep them"
    grouped = {name for group in plan.groups for name in group}
    for name in found:
        pattern = plan.patterns.get(name)
        if name in grouped or (pattern is not None and not whole_units(weights[name], pattern)):
            return f"those of {name} are no whole units of the pattern {pattern}"
    return ""
