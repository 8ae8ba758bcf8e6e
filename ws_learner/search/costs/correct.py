"""Predict, measure, correct: a latency is met when the finished network is measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ws_learner.config import Budget
from ws_learner.core import UserError, say
from ws_learner.report import cost_text
from ws_learner.search.costs.settle import Limit
from ws_learner.search.costs.space import Profile

__all__ = ["AIM", "budget_part", "correct_latency"]

_TRIES = 10
AIM = 0.97
"""Share of a budget: the finished network is timed again, and noise must not carry it over."""
_NEAR, _SAFE = 0.95, 0.985
_MEASURED = ("latency", "bytes")
_STEP = 1.5


@dataclass(frozen=True, kw_only=True, eq=False)
class _Tried:
    profile: Profile
    measured: dict[int, float]
    worst: float
    is_near: bool


def correct_latency(
    fit: Callable[[list[Limit]], Profile | None],
    limits: Sequence[Limit],
    budgets: Sequence[Budget],
    *,
    measure: Callable[[int, Profile], float],
) -> tuple[Profile, list[dict[str, Any]]]:
    """The profile within the limits, with predicted latencies corrected by measured ones.

    The budget given to the prediction is scaled by asked over measured until the measured median
    is at most the budget and not over 5 % below it, or until it cannot be met more closely.

    Args:
        fit: Makes the profile within limits; None if there is none.
        limits: The budgets in their units.
        budgets: The same in the user's words.
        measure: Measures the cost of a profile under the budget of that number.

    Returns:
        The profile, and for each budget what was asked, predicted and measured.

    Raises:
        UserError: The measured latency stays above the budget.
    """
    tried = _try_all(fit, limits, budgets, measure=measure)
    if not tried:
        named = ", ".join(map(str, budgets))
        raise UserError(
            f"`ws_budget` {named}: cannot be met together within the layers' bounds; raise one"
        )
    chosen = _choose(tried)
    return chosen.profile, [
        budget_part(limit, budget, limit.cost(chosen.profile), chosen.measured.get(place))
        for place, (limit, budget) in enumerate(zip(limits, budgets, strict=True))
    ]


def _try_all(
    fit: Callable[[list[Limit]], Profile | None],
    limits: Sequence[Limit],
    budgets: Sequence[Budget],
    *,
    measure: Callable[[int, Profile], float],
) -> list[_Tried]:
    """The profiles that were measured, the last one the nearest in most cases."""
    timed = [place for place, one in enumerate(budgets) if one.kind in _MEASURED]
    aims, feasible, tried = list(limits), list(limits), list[_Tried]()
    done: dict[int, list[tuple[float, float]]] = {place: [] for place in timed}
    for _ in range(_TRIES if timed else 1):
        profile = fit(aims)
        if profile is None and not tried:
            break
        if profile is None:  # too little even for the cheapest choices: half the step
            for place in timed:
                middle = (aims[place].most * feasible[place].most) ** 0.5
                aims[place] = replace(aims[place], most=middle)
            continue
        if tried and profile == tried[-1].profile and tried[-1].worst <= 1:
            break  # the next dearer choice is far away
        again = next((one for one in tried if one.profile == profile), None)
        measured = {
            place: measure(place, profile) if again is None else again.measured[place]
            for place in timed
        }
        shares = [measured[place] / limits[place].most for place in timed]
        most = [1.0 if budgets[place].kind == "bytes" else _SAFE for place in timed]
        worst = max(shares, default=1.0)
        near = worst >= _NEAR and all(s <= m for s, m in zip(shares, most, strict=True))
        tried.append(_Tried(profile=profile, measured=measured, worst=worst, is_near=near))
        for place in timed if again is None else ():
            unit, asked = limits[place].costs.unit, limits[place].most
            found = cost_text(unit, measured[place])
            say(f"budget {budgets[place]}: measured {found} of {cost_text(unit, asked)}")
        dense = all(one.zeros == 0 and one.dtype == "fp32" for one in profile)
        if (dense and tried[-1].worst <= 1) or tried[-1].is_near:
            break
        feasible = list(aims)
        for place in timed:
            done[place].append((aims[place].most, measured[place]))
            aim = _next_aim(done[place], wanted=AIM * limits[place].most)
            aims[place] = replace(aims[place], most=aim)
    return tried


def _choose(tried: Sequence[_Tried]) -> _Tried:
    """The dearest profile within the budgets, with headroom for noise where there is one.

    Raises:
        UserError: None is within them.
    """
    within = [one for one in tried if one.worst <= 1]
    if not within:
        best = min(tried, key=lambda one: one.worst)
        raise UserError(
            f"`ws_budget`: the nearest of {len(tried)} profiles measured "
            f"{best.worst:.3f} times the latency asked for; raise the budget"
        )
    near = [one for one in within if one.is_near]
    return max(near or within, key=lambda one: one.worst)


def _next_aim(done: Sequence[tuple[float, float]], *, wanted: float) -> float:
    """The budget to give to the prediction, from pairs of given budget and measured cost.

    In proportion at first. Once a budget was too large and another too small, the middle of the
    nearest two: choices are steps, and a layer may change its kernel at one.
    """
    aim, measured = done[-1]
    within = [given for given, found in done if found <= wanted]
    above = [given for given, found in done if found > wanted]
    if within and above and max(within) < min(above):
        return math.sqrt(max(within) * min(above))
    found = aim * wanted / measured
    return min(max(found, aim / _STEP), aim * _STEP)


def budget_part(
    limit: Limit, budget: Budget, predicted: float, measured: float | None = None
) -> dict[str, Any]:
    """Entry of the summary: what was asked, predicted and, before the training, measured."""
    part: dict[str, Any] = {"budget": str(budget), "unit": limit.costs.unit, "most": limit.most}
    part |= {"predicted": predicted, "digest": limit.costs.digest}
    part |= {} if limit.pace is None else {"pace": limit.pace}
    return part if measured is None else part | {"measured": measured}
