"""Bounds of single layers: caps and floors by name, and zeros that a network keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from envs import LayerRow
from ws_learner.config import WeightSparseConfig
from ws_learner.core import UserError, by_layer
from ws_learner.pruning import PatternPlan

__all__ = ["general_bounds", "layer_limits", "refuse_outside"]

_ROUNDING = 1e-9  # 0.1 * 30 is slightly above 3; this must not move a bound


@dataclass(frozen=True, kw_only=True)
class _Bound:
    """A ratio, and where it comes from."""

    ratio: float
    said: str


def general_bounds(config: WeightSparseConfig) -> tuple[float, float]:
    """Least and largest prune ratio of the layers without bounds of their own."""
    target = config.ws_prune_ratio
    if target == 1.0:
        return 1.0, 1.0
    if target == 0.0:
        return 0.0, 0.0
    if config.ws_ratio_bounds == "pocketflow":
        return max(0.0, 1 - 3 * (1 - target)), 1 - (1 - target) / 3
    return config.ws_ratio_min, config.ws_ratio_max


def layer_limits(
    layers: Sequence[LayerRow],
    config: WeightSparseConfig,
    plan: PatternPlan | None = None,
    *,
    general: tuple[float, float] | None = None,
) -> dict[str, tuple[int, int]]:
    """Least and most zeros of the layers that have bounds of their own.

    A layer's own cap or floor takes the place of the general one. Exempt layers have none.

    Args:
        layers: The layer table.
        config: Names caps, floors and fixed ratios.
        plan: Whole units of the pattern, to which the bounds are narrowed; None: single weights.
        general: Bounds on the side that a layer does not set; by default the settings' own.

    Raises:
        UserError: A name fits no layer, a layer's bounds cross, or no whole unit lies between.
    """
    floors, caps = _named(layers, config)
    found, said = dict[str, tuple[int, int]](), dict[str, str]()
    general = general_bounds(config) if general is None else general
    for row in layers:
        floor, cap = floors.get(row.name), caps.get(row.name)
        if row.exempt or not (floor or cap or row.least):
            continue
        found[row.name] = _limits(row, floor, cap, general)
        texts = [bound.said for bound in (floor, cap) if bound]
        said[row.name] = " and ".join(dict.fromkeys(texts)) or f"{row.least} zeros to keep"
    if plan is not None:
        found = _in_units(found, layers, plan, said)
    return found


def refuse_outside(
    zeros: Mapping[str, int], limits: Mapping[str, tuple[int, int]], *, where: str
) -> None:
    """Refuse given counts that a layer's own bounds do not allow.

    Raises:
        UserError: The line names the first layer.
    """
    for name, (low, high) in limits.items():
        if not low <= zeros[name] <= high:
            raise UserError(
                f"{where}: {zeros[name]} zeros for {name}, of which its bounds allow {low} to "
                f"{high}; change it, or `ws_max_ratios`, `ws_min_ratios`, `ws_fixed_ratios` or "
                "`ws_keep_zeros`"
            )


def _named(
    layers: Sequence[LayerRow], config: WeightSparseConfig
) -> tuple[dict[str, _Bound], dict[str, _Bound]]:
    """Floors and caps by layer; a fixed ratio is both."""
    names = [row.name for row in layers]
    exempt = {row.name for row in layers if row.exempt}

    def bounds(setting: str) -> dict[str, _Bound]:
        given = config.named_ratios(setting)
        chosen = by_layer(given, names, where=f"`{setting}`")
        if setting != "ws_max_ratios":
            _refuse_exempt(given, chosen, exempt, setting)
        return {
            name: _Bound(ratio=ratio, said=f"`{setting}` {key}={ratio:g}")
            for name, (key, ratio) in chosen.items()
        }

    floors, caps, fixed = (bounds(f"ws_{kind}_ratios") for kind in ("min", "max", "fixed"))
    for name, bound in fixed.items():
        for low, high in ((floors.get(name), bound), (bound, caps.get(name))):
            if low and high and low.ratio > high.ratio:
                raise UserError(f"{low.said} exceeds {high.said} in {name}; change one")
    return floors | fixed, caps | fixed


def _refuse_exempt(
    given: Mapping[str, float],
    chosen: Mapping[str, tuple[str, float]],
    exempt: set[str],
    setting: str,
) -> None:
    """Refuse a ratio above 0 for what stays dense; a pattern may cover such layers as well."""
    for key, ratio in given.items():
        reached = [name for name, (by, _) in chosen.items() if by == key]
        if ratio and reached and exempt.issuperset(reached):
            raise UserError(
                f"`{setting}` {key}={ratio:g}: {reached[0]} stays dense (`ws_exempt`, or its "
                "pattern does not fit); leave one out"
            )


def _limits(
    row: LayerRow, floor: _Bound | None, cap: _Bound | None, general: tuple[float, float]
) -> tuple[int, int]:
    """Zeros of a layer in single weights."""
    size, (least, most) = row.weights, general
    if floor and cap and floor.ratio > cap.ratio:
        raise UserError(f"{floor.said} exceeds {cap.said} in {row.name}; change one")
    if floor is not None and floor is cap:
        low = high = round(floor.ratio * size)
    else:
        upper = cap.ratio if cap else max(most, floor.ratio if floor else 0.0)
        lower = floor.ratio if floor else min(least, upper)
        high = int(np.floor(upper * size + _ROUNDING))
        low = min(int(np.ceil(lower * size - _ROUNDING)), high)
    if cap and row.least > high:
        raise UserError(
            f"{cap.said}: {row.name} has {row.least} zeros of {size} already, "
            f"{row.least / size:.4f}; raise it, or set `ws_keep_zeros` to no"
        )
    return max(low, row.least), max(high, row.least)


def _in_units(
    found: Mapping[str, tuple[int, int]],
    layers: Sequence[LayerRow],
    plan: PatternPlan,
    said: Mapping[str, str],
) -> dict[str, tuple[int, int]]:
    """The limits in whole units; equal ones become the nearest count there is."""
    sizes = {row.name: row.weights for row in layers}
    asked = {}
    for name, (low, high) in found.items():
        near = plan.snap({name: low})[name] if low == high and low else low
        asked[name] = (near, near) if low == high and name not in _grouped(plan) else (low, high)
    limits = plan.limited(asked)
    for name, (low, high) in limits.items():
        if low > high:
            below, above = plan.nearby(name, found.get(name, (low, high))[0])
            size = sizes[name]
            raise UserError(
                f"{said.get(name, next(iter(said.values())))}: the pattern makes no such count in "
                f"{name}; the nearest ratios are {below / size:.4f} and {above / size:.4f}"
            )
    return limits


def _grouped(plan: PatternPlan) -> set[str]:
    return {name for group in plan.groups for name in group}
