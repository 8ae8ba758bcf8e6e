"""Build a pattern plan for a network, and handle layers that the pattern does not fit."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Literal

import numpy as np
from torch import nn

from envs import IntArray, LayerRow
from ws_learner.config import METHODS, WeightSparseConfig
from ws_learner.core import UserError, check_choice, say
from ws_learner.pruning.layers.attention_heads import find_attention
from ws_learner.pruning.layers.prunable import parameter_of
from ws_learner.pruning.layers.roles import weight_roles
from ws_learner.pruning.layers.unit_groups import find_groups, unit_patterns
from ws_learner.pruning.layers.unresolved_groups import refuse_unresolved
from ws_learner.pruning.layers.weight_kinds import layout_of
from ws_learner.pruning.patterns.group_base import PoolName
from ws_learner.pruning.patterns.laid_out import LaidOut, for_layout, refuse_layout
from ws_learner.pruning.patterns.model_plan import Limits, PatternPlan
from ws_learner.pruning.patterns.nm import NM
from ws_learner.pruning.patterns.pattern import (
    ByRole,
    HeadPattern,
    Pattern,
    PerLayerPatterns,
    UnitPattern,
    Unstructured,
    as_pattern,
)
from ws_learner.pruning.patterns.per_layer_nm import PerLayerNM
from ws_learner.pruning.patterns.slices import Slices

__all__ = [
    "Remainder",
    "build_pattern_plan",
    "by_role",
    "drop_unfitting",
    "fitting_rows",
    "snap_profile",
    "with_default_pattern",
]

Remainder = Literal["pad", "skip", "error"]
_HEADS, _NEURONS = {"q", "k", "v", "o"}, {"ff"}


def with_default_pattern(config: WeightSparseConfig, model: nn.Module) -> WeightSparseConfig:
    """The settings with `units` where movement prunes heads and neurons and no pattern was given.

    Otherwise nothing of a transformer could be cropped, the main use of movement pruning.
    """
    whole = set(config.roles) in (_HEADS, _NEURONS, _HEADS | _NEURONS)
    given = config.ws_pattern or config.ws_qkv_pattern
    if given or config.ws_method != "movement" or not whole or not find_groups(model):
        return config
    say("`pattern` units: whole heads and neurons go; `pattern` unstructured: single weights")
    return replace(config, ws_pattern="units")


def build_pattern_plan(
    model: nn.Module,
    names: Iterable[str],
    *,
    pattern: Pattern | str | Mapping[str, Pattern | str],
    pool: PoolName = "mean",
) -> PatternPlan:
    """The pattern of each named weight; under `mha` the projections of an attention go together.

    Patterns run along the true outputs and inputs of a weight, whatever its layout.

    Raises:
        UserError: Under `mha`, a weight that is no projection of an attention; or a pattern on a
            weight of three axes or more whose layout is not known; or no pattern for a layer.
    """
    names = tuple(names)
    plan = _plan_as_stored(model, names, pattern=as_pattern(pattern), pool=pool)
    known = {n: _for_layout(model, n, own, plan.shapes[n]) for n, own in plan.patterns.items()}
    return plan if known == dict(plan.patterns) else replace(plan, patterns=known)


def _for_layout(model: nn.Module, name: str, pattern: Pattern, shape: tuple[int, ...]) -> Pattern:
    layout = layout_of(model, name)
    if not layout.known and not isinstance(pattern, Unstructured) and len(shape) > 1:
        known = f"name_layout(model, {name!r}, 'experts inputs outputs')"
        if len(shape) > 2:
            raise UserError(
                f"`pattern` {pattern}: which axis of {name}, of shape {shape}, holds outputs is "
                f"not known; say it, as with {known}, or leave it out with `exclude`"
            )
        _say_once(
            f"pattern {pattern}: {name}, of shape {shape}, is taken as (outputs, inputs); else "
            f"say name_layout(model, {name!r}, 'inputs outputs')"
        )
    return for_layout(pattern, layout, shape)


@lru_cache(maxsize=1024)
def _say_once(text: str) -> None:
    say(text)


def _plan_as_stored(
    model: nn.Module, names: Sequence[str], *, pattern: Pattern, pool: PoolName
) -> PatternPlan:
    shapes = {name: tuple(parameter_of(model, name).shape) for name in names}
    if isinstance(pattern, UnitPattern):
        known, groups = unit_patterns(model, shapes)
        return PatternPlan(patterns=known, shapes=shapes, groups=groups, pool=pool)
    if isinstance(pattern, PerLayerPatterns):
        return PatternPlan(patterns=_by_layer(pattern, names), shapes=shapes, pool=pool)
    if isinstance(pattern, ByRole):
        own = by_role(model, pattern)
        for name in shapes:
            if name not in own:
                raise UserError(
                    f"`pattern` {pattern}: {name} has none of these roles; leave it out with "
                    "`exempt`, or see `ws_learner.pruning.layers.roles`"
                )
        patterns = {name: own[name] for name in shapes}
        shared = [name for name in shapes if isinstance(own[name], UnitPattern)]
        units, groups = unit_patterns(model, shared) if shared else ({}, ())
        return PatternPlan(patterns=patterns | units, shapes=shapes, groups=groups, pool=pool)
    if not isinstance(pattern, HeadPattern):
        return PatternPlan(patterns=dict.fromkeys(shapes, pattern), shapes=shapes, pool=pool)
    attentions = find_attention(model)
    known = {name: heads for found in attentions for name, heads in found.patterns.items()}
    strangers = [name for name in shapes if name not in known]
    if strangers:
        raise UserError(
            f"`pattern` mha: {strangers[0]} is no projection of an attention that was found "
            f"({len(attentions)} attentions); leave it out with `exclude`"
        )
    groups = tuple(tuple(n for n in found.patterns if n in shapes) for found in attentions)
    return PatternPlan(
        patterns={name: known[name] for name in shapes},
        shapes=shapes,
        groups=tuple(group for group in groups if group),
        pool=pool,
    )


def _by_layer(pattern: PerLayerPatterns, names: Iterable[str]) -> dict[str, Pattern]:
    known = pattern.by_layer
    for name in names:
        if name not in known:
            raise UserError(
                f"`pattern` {pattern}: none is given for {name}; add it under this name, such as "
                f"{{{name!r}: 'unstructured'}}, or prune nothing there"
            )
    return {name: known[name] for name in names}


def by_role(model: nn.Module, pattern: ByRole) -> dict[str, Pattern]:
    """Pattern of each weight that has a role of the pattern, by parameter name.

    In a weight that stacks q, k and v the slices named are pruned, each by itself.

    Raises:
        UserError: The network has no weight of a role named, or a stacked weight's slices would
            need patterns that cannot be told apart.
    """
    wanted, roles = dict(pattern.parts), weight_roles(model)
    known = {role for each in roles.values() for role in each}
    if lacking := [role for role in wanted if role not in known]:
        raise UserError(
            f"`location` {lacking[0]}: no weight of this network has that role; there are "
            f"{', '.join(sorted(known))}"
        )
    found = {}
    for name, own in roles.items():
        if any(role in wanted for role in own):
            found[name] = _stacked(name, [wanted.get(role) for role in own])
    return found


def _stacked(name: str, parts: Sequence[Pattern | None]) -> Pattern:
    """One pattern for equal slices of a weight; None is dense."""
    first = next(part for part in parts if part is not None)
    if len(parts) == 1:
        return first
    if all(part is None or isinstance(part, NM) for part in parts):
        return Slices(tuple(part for part in parts if part is None or isinstance(part, NM)))
    if isinstance(first, PerLayerNM) and all(part in (None, first) for part in parts):
        return replace(first, chosen=tuple(part is not None for part in parts))
    if all(part == first for part in parts):
        return first
    raise UserError(
        f"`location`: {name} holds q, k and v in one weight, of which only N:M patterns can "
        "prune a part; name all three, or an N:M pattern"
    )


def snap_profile(
    zeros: IntArray,
    layers: Sequence[LayerRow],
    plan: PatternPlan,
    *,
    limits: Limits | None = None,
) -> IntArray:
    """(L,) the feasible profile next to `zeros` (L,), see `PatternPlan.snap`.

    Raises:
        ValueError: Zeros for a layer that is not in the plan.
    """
    counts = {row.name: int(count) for row, count in zip(layers, zeros, strict=True)}
    strangers = [name for name, count in counts.items() if count and name not in plan.patterns]
    if strangers:
        raise ValueError(f"{strangers[0]}: {counts[strangers[0]]} zeros, but it stays dense")
    planned = {name: count for name, count in counts.items() if name in plan.patterns}
    counts |= plan.snap(planned, limits=limits)
    return np.array([counts[row.name] for row in layers], dtype=np.int64)


def drop_unfitting(
    model: nn.Module, names: Iterable[str], *, pattern: Pattern | str, remainder: Remainder
) -> tuple[str, ...]:
    """Names of the weights that stay dense because the pattern does not fit them.

    `pad` leaves none out but those that `mha` has no heads for; `skip` warns and names the layer.

    Raises:
        UserError: `error`, and a pattern does not divide a layer; or `units`, and heads or neurons
            could not be found; or no pattern for a layer.
    """
    check_choice(remainder, Remainder, name="remainder")
    names, pattern = list(names), as_pattern(pattern)
    if isinstance(pattern, UnitPattern):
        groups = find_groups(model)
        refuse_unresolved(model, groups, names)
        inside = {member.weight for group in groups for member in group.members}
        return tuple(name for name in names if name not in inside)
    if isinstance(pattern, HeadPattern):
        known = {name for found in find_attention(model) for name in found.patterns}
        return tuple(name for name in names if name not in known)
    if isinstance(pattern, PerLayerPatterns):
        own = _by_layer(pattern, names)
    elif isinstance(pattern, ByRole):
        own = by_role(model, pattern)
    else:
        own = dict.fromkeys(names, pattern)
    out = [name for name in names if name not in own]
    for name in names if remainder != "pad" else ():
        shape = tuple(parameter_of(model, name).shape)
        if name in out or isinstance(own[name], UnitPattern):
            continue
        if _for_layout(model, name, own[name], shape).divides(shape):
            continue
        shown = own[name] if isinstance(pattern, PerLayerPatterns) else pattern
        text = f"the pattern {shown} does not divide {name} of shape {shape}"
        if remainder == "error":
            raise UserError(
                f"`remainder` error: {text}; pad or skip it, or leave it out with `exclude`"
            )
        warnings.warn(f"{text}: it stays dense (`remainder` skip)", stacklevel=2)
        out.append(name)
    return tuple(out)


def fitting_rows(
    model: nn.Module,
    layers: Sequence[LayerRow],
    *,
    pattern: Pattern | str,
    remainder: Remainder,
    method: str = "",
) -> tuple[LayerRow, ...]:
    """The layer table with layers exempt that the pattern does not fit; they count as dense.

    Args:
        model: The network.
        layers: Its table.
        pattern: What the layers are pruned by.
        remainder: What to do with a layer that the pattern does not divide.
        method: That trains the network to sparsity, if it is known.

    Raises:
        UserError: See `drop_unfitting`; or nothing is left to prune, or the method cannot train
            the pattern in the layout of a weight.
    """
    pattern = as_pattern(pattern)
    open_ = [row.name for row in layers if not row.exempt]
    out = set(drop_unfitting(model, open_, pattern=pattern, remainder=remainder))
    if open_ and len(out) == len(open_):
        raise UserError(f"`pattern` {pattern}: the pattern fits none of the {len(open_)} layers")
    plan = build_pattern_plan(model, [name for name in open_ if name not in out], pattern=pattern)
    trains_nm = bool(method) and METHODS[method].trains_nm
    for name, own in plan.patterns.items():
        if isinstance(own, LaidOut) and (trains_nm or method == "movement"):
            refuse_layout(f"`method` {method}", name, own, plan.shapes[name])
    if isinstance(pattern, ByRole):
        _tell(layers, plan, pattern=pattern)
    return tuple(
        replace(
            row,
            exempt=row.exempt or row.name in out,
            most=_most(row, plan),
        )
        for row in layers
    )


def _most(row: LayerRow, plan: PatternPlan) -> int | None:
    """Upper bound of the layer's zeros, if there is one."""
    most = plan.most(row.name) if row.name in plan.patterns else row.weights
    return None if most == row.weights else most


def _tell(layers: Sequence[LayerRow], plan: PatternPlan, *, pattern: Pattern) -> None:
    """List what a pattern by role leaves dense."""
    dense = [f"{row.name} ({row.role})" for row in layers if row.name not in plan.patterns]
    partly = [
        f"{name} ({kind})"
        for name, kind in plan.patterns.items()
        if isinstance(inner := _inner(kind), Slices) and None in inner.parts
    ]
    say(f"pattern {pattern}: {len(plan.patterns)} weights pruned; dense: {', '.join(dense) or '-'}")
    if partly:
        say(f"in slices of equal size: {', '.join(partly)}")


def _inner(pattern: Pattern) -> Pattern:
    return pattern.pattern if isinstance(pattern, LaidOut) else pattern
