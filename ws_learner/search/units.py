"""Profiles in whole units of a pattern, and targets too small for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from envs import IntArray, LayerRow
from ws_learner.config import NAMED_RATIOS, WeightSparseConfig, parse_pattern_spec
from ws_learner.core import say
from ws_learner.pruning import (
    PatternPlan,
    build_pattern_plan,
    parse_pattern,
    refuse_no_units,
    snap_profile,
)

__all__ = ["build_plan", "in_whole_units", "limiting_plan", "refuse_too_small"]


def build_plan(
    model: nn.Module, layers: Sequence[LayerRow], config: WeightSparseConfig
) -> PatternPlan:
    """The settings' pattern on the layers that are not exempt."""
    open_ = [row.name for row in layers if not row.exempt]
    pattern = parse_pattern(config.pattern_spelling)
    return build_pattern_plan(model, open_, pattern=pattern, pool=config.ws_criterion_pool)


def limiting_plan(
    model: nn.Module, layers: Sequence[LayerRow], config: WeightSparseConfig
) -> PatternPlan | None:
    """The plan to which bounds of single layers are narrowed; None where there are none."""
    bounded = any(config.named_ratios(name) for name in NAMED_RATIOS)
    if not bounded and not any(row.least for row in layers):
        return None
    if parse_pattern_spec(config.pattern_spelling).kind == "unstructured":
        return None
    return build_plan(model, layers, config)


def in_whole_units(
    zeros: IntArray,
    layers: Sequence[LayerRow],
    plan: PatternPlan,
    *,
    config: WeightSparseConfig,
    limits: Mapping[str, tuple[int, int]] | None = None,
) -> IntArray:
    """(L,) the nearest profile that the pattern can make; the rollouts scored the same one.

    `limits` are bounds of single layers in whole units, see `layer_limits`.

    Raises:
        UserError: It has no whole unit.
    """
    snapped = snap_profile(zeros, layers, plan, limits=limits)
    weights = sum(row.weights for row in layers)
    asked, got = int(zeros.sum()), int(snapped.sum())
    target = config.ws_prune_ratio if config.ws_ratios is None else asked / weights
    _refuse_no_units(plan, layers, config, target, reached=got)
    if got != asked:
        say(
            f"pattern {config.pattern_spelling}: {got} zeros in whole units, {asked} were "
            f"requested ({got / weights:.6f} overall)"
        )
    return snapped


def refuse_too_small(
    layers: Sequence[LayerRow], plan: PatternPlan, *, config: WeightSparseConfig
) -> None:
    """Refuse, before a search, a target that no profile can meet by as much as one unit.

    Raises:
        UserError: The target is below half a unit.
    """
    budget = config.ws_prune_ratio * sum(row.weights for row in layers)
    if 2 * round(budget) < plan.least():
        _refuse_no_units(plan, layers, config, config.ws_prune_ratio, reached=0)


def _refuse_no_units(
    plan: PatternPlan,
    layers: Sequence[LayerRow],
    config: WeightSparseConfig,
    asked_for: float,
    *,
    reached: int,
) -> None:
    """Refuse a target that came to no whole unit in any layer."""
    asked = {row.name: row.weights for row in layers if row.name in plan.patterns}
    total = sum(row.weights for row in layers)

    def zeros_at(target: float) -> int:
        if target == asked_for:
            return reached
        share = target * total / sum(asked.values())
        wanted = {name: min(size, round(share * size)) for name, size in asked.items()}
        return sum(plan.snap(wanted).values())

    refuse_no_units(zeros_at, asked_for, total=total, pattern=config.pattern_spelling, names=asked)
