"""Predict, measure, correct: a latency is met when the finished network is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ws_learner.config import Budget
from ws_learner.core import UserError, say
from ws_learner.report import cost_text
from ws_learner.search.costs.settle import Limit
from ws_learner.search.costs.space import Profile

__all__ = ["correct_latency"]

_TRIES = 6
_AIM = 0.98  # of the budget, so that noise does not carry it over
_NEAR = 0.95


@dataclass(frozen=True, kw_only=True, eq=False)
class _Tried:
    profile: Profile
    measured: dict[int, float]
    worst: float


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
    timed = [place for place, one in enumerate(budgets) if one.kind == "latency"]
    aims, tried = list(limits), list[_Tried]()
    for _ in range(_TRIES if timed else 1):
        profile = fit(aims)
        if profile is None:
            break
        measured = {place: measure(place, profile) for place in timed}
        shares = [measured[place] / limits[place].most for place in timed]
        tried.append(_Tried(profile=profile, measured=measured, worst=max(shares, default=1.0)))
        for place in timed:
            unit, asked = limits[place].costs.unit, limits[place].most
            say(
                f"budget {budgets[place]}: measured {cost_text(unit, measured[place])} of "
                f"{cost_text(unit, asked)}"
            )
        if _NEAR <= tried[-1].worst <= 1 or not any(one.zeros for one in profile):
            break
        for place, share in zip(timed, shares, strict=True):
            aims[place] = replace(aims[place], most=aims[place].most * _AIM / share)
    if not tried:
        named = ", ".join(map(str, budgets))
        raise UserError(
            f"`ws_budget` {named}: cannot be met together within the layers' bounds; raise one"
        )
    within = [one for one in tried if one.worst <= 1]
    if not within:
        best = min(tried, key=lambda one: one.worst)
        raise UserError(
            f"`ws_budget`: the nearest of {len(tried)} profiles measured "
            f"{best.worst:.3f} times the latency asked for; raise the budget"
        )
    chosen = max(within, key=lambda one: one.worst)
    return chosen.profile, [
        _part(limit, budget, chosen.measured.get(place))
        for place, (limit, budget) in enumerate(zip(limits, budgets, strict=True))
    ]


def _part(limit: Limit, budget: Budget, measured: float | None) -> dict[str, Any]:
    part: dict[str, Any] = {"budget": str(budget), "unit": limit.costs.unit, "most": limit.most}
    part["digest"] = limit.costs.digest
    return part if measured is None else part | {"measured": measured}
