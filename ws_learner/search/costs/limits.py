"""Budgets of the settings as limits in their units, refused where no network can meet them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from envs import LayerRow
from ws_learner.config import Budget
from ws_learner.core import LayerChoice, LayerCosts, UserError, say
from ws_learner.report import cost_text
from ws_learner.search.costs.begun import Begun
from ws_learner.search.costs.counted import CountedCosts, ScaledCosts
from ws_learner.search.costs.settle import Limit
from ws_learner.search.costs.source import CostSource

__all__ = ["budget_limits", "refuse_unreachable"]

_COUNTED = ("params", "macs")


def budget_limits(
    budgets: Sequence[Budget],
    layers: Sequence[LayerRow],
    *,
    source: CostSource | None,
    choices: Callable[[], Sequence[Sequence[LayerChoice]]],
    says: bool = True,
    earlier: Mapping[str, Begun] | None = None,
) -> list[Limit]:
    """The limits; costs that must be measured are measured here.

    Args:
        budgets: The settings' budgets.
        layers: The layer table.
        source: Measures costs; None: they are only counted.
        choices: The choices that a table must cover.
        says: Print what a share comes to.
        earlier: What an earlier call measured; it holds where the costs are the same.

    Raises:
        UserError: A cost cannot be measured.
    """
    found = []
    for budget in budgets:
        if budget.kind in _COUNTED:
            costs = CountedCosts(unit=budget.kind, layers=layers)  # type: ignore[arg-type]
            dense = sum(costs.price(i) * row.weights for i, row in enumerate(layers))
            found.append(_limit(budget, costs, dense, says))
            continue
        if source is None:
            raise UserError(
                f"`ws_budget` {budget}: nothing here measures {budget.unit}; run it with "
                "WeightSparseLearner or on the command line"
            )
        options = choices()
        table = source.table(budget, layers, options)
        begun = (earlier or {}).get(str(budget))
        if begun is not None and begun.digest == table.digest:
            again = ScaledCosts(inner=table, factor=begun.factor)
            limit = _said(budget, again, begun.most, says)
            found.append(replace(limit, pace=source.pace(budget, earlier=begun.pace)))
            continue
        dense = source.dense(budget)
        limit = _limit(budget, _anchored(table, options, dense), dense, says)
        found.append(replace(limit, pace=source.pace(budget)))
    return found


def _anchored(
    table: LayerCosts, options: Sequence[Sequence[LayerChoice]], dense: float
) -> LayerCosts:
    """Latencies by which the dense network costs what was measured just now."""
    if not table.unit.startswith("latency"):
        return table
    predicted = table.overhead + sum(table.cost(i, own[0]) for i, own in enumerate(options))
    return ScaledCosts(inner=table, factor=dense / predicted) if predicted > 0 else table


def _limit(budget: Budget, costs: object, dense: float, says: bool) -> Limit:
    return _said(budget, costs, budget.amount * dense if budget.share else budget.amount, says)


def _said(budget: Budget, costs: object, most: float, says: bool) -> Limit:
    said = f"{budget}, {cost_text(budget.unit, most)}" if budget.share else str(budget)
    if budget.share and says:
        say(f"budget {budget}: at most {cost_text(budget.unit, most)}")
    return Limit(costs=costs, most=most, said=said)  # type: ignore[arg-type]


def refuse_unreachable(limits: Sequence[Limit], options: Sequence[Sequence[LayerChoice]]) -> None:
    """Refuse a budget that no network within the bounds can meet.

    Args:
        limits: The budgets.
        options: The choices of each layer, the dense one first.

    Raises:
        UserError: The line says what can be reached.
    """
    for limit in limits:
        costs = limit.costs
        low = costs.overhead + sum(
            min(costs.cost(layer, choice) for choice in own) for layer, own in enumerate(options)
        )
        if limit.holds(low):
            continue
        high, unit = limit.cost([own[0] for own in options]), costs.unit
        fixed = f", of which {cost_text(unit, costs.overhead)} no layer has"
        fixed = fixed if costs.overhead > 1e-3 * low else ""
        raise UserError(
            f"`ws_budget` {limit.said}: the layers' bounds and patterns allow "
            f"{cost_text(unit, low)} ({low / max(high, 1e-300):.3f} of the dense network's) to "
            f"{cost_text(unit, high)}{fixed}; raise it, or change "
            "`ws_ratio_max`, `ws_exempt` or `ws_pattern`"
        )
