"""What the finished network costs, beside what was asked and predicted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from torch import nn

from envs import LayerRow
from ws_learner.config import Budget, WeightSparseConfig
from ws_learner.core import LayerChoice, say
from ws_learner.report import cost_text
from ws_learner.search.allocation import Allocation, Decision
from ws_learner.search.costs.counted import CountedCosts
from ws_learner.search.costs.source import CostSource
from ws_learner.search.costs.space import Profile

__all__ = [
    "cheaper_decision",
    "finished_choices",
    "finished_costs",
    "layer_patterns",
    "summary_facts",
]

_OF_LAYERS = ("patterns", "dtypes", "predicted_ms")
_REPEATS = 3


def layer_patterns(allocation: Decision, layers: Sequence[LayerRow]) -> dict[str, str] | None:
    """Spelling of each layer's own pattern, by parameter name; None where all have the same."""
    patterns = allocation.facts.get("patterns")
    if patterns is None:
        return None
    return {row.name: str(spelling) for row, spelling in zip(layers, patterns, strict=True)}


def summary_facts(allocation: Allocation) -> dict[str, Any]:
    """Entries of the summary; what the table of ratios says of each layer is left to it."""
    facts = {k: v for k, v in allocation.facts.items() if k not in _OF_LAYERS}
    patterns = allocation.facts.get("patterns")
    if patterns is not None:
        used = [one for one, zeros in zip(patterns, allocation.zeros, strict=True) if zeros]
        facts["pattern"] = ", ".join(sorted(set(used))) or "none"
    return facts


def finished_choices(
    allocation: Decision, layers: Sequence[LayerRow], config: WeightSparseConfig
) -> dict[str, LayerChoice]:
    """The choice of each layer of a finished allocation, by parameter name; none if units went."""
    facts = allocation.facts
    if facts.get("structured"):
        return {}
    patterns = facts.get("patterns") or [config.pattern_choices[0]] * len(layers)
    dtypes = facts.get("dtypes") or [config.dtypes[0]] * len(layers)
    rows = zip(layers, allocation.zeros.tolist(), patterns, dtypes, strict=True)
    return {
        row.name: LayerChoice(pattern=pattern, zeros=zeros, dtype=dtype)
        for row, zeros, pattern, dtype in rows
    }


def finished_costs(
    parts: Sequence[Mapping[str, Any]],
    network: nn.Module,
    *,
    layers: Sequence[LayerRow],
    choices: Mapping[str, LayerChoice],
    config: WeightSparseConfig,
    source: CostSource | None,
) -> list[dict[str, Any]]:
    """Entries of the summary: each budget with what the finished network was measured to cost.

    Args:
        parts: What was asked and predicted.
        network: The finished network.
        layers: The layer table.
        choices: The choice of each layer, by name.
        config: Names the budgets.
        source: Measures what is not counted.
    """
    found = []
    for budget, part in zip(config.budgets, parts, strict=True):
        if budget.kind in ("params", "macs") and not choices:
            cost = part["predicted"]  # exact: products of what both sides keep
        elif budget.kind in ("params", "macs"):
            costs = CountedCosts(unit=budget.kind, layers=layers)
            cost = sum(costs.cost(i, choices[row.name]) for i, row in enumerate(layers))
        elif "finished" in part:  # measured after the training, see `cheaper_decision`
            cost = part["finished"]
        elif source is None:
            continue
        else:
            cost = _measured(budget, part, network, choices=choices, source=source)
        if _over(cost, part):
            say(f"budget {budget}: the finished network {_measures(cost, part)}")
        found.append(dict(part) | {"finished": cost})
    return found


def cheaper_decision(
    kept: Decision,
    network: nn.Module,
    *,
    layers: Sequence[LayerRow],
    config: WeightSparseConfig,
    source: CostSource,
    cheaper: Callable[[Decision, Profile, Sequence[float | None]], Decision | None],
) -> Decision:
    """What a trained network needs to be within its latencies.

    If it is, the same decision, with what it measured in `budget_parts`.

    Args:
        kept: What it was trained to.
        network: The trained network.
        layers: The layer table.
        config: Names the budgets.
        source: Measures.
        cheaper: See `BudgetedAllocation.cheaper`.
    """
    choices = finished_choices(kept, layers, config)
    if not choices:
        return kept
    missed, parts = list[float | None](), list[dict[str, Any]]()
    for budget, part in zip(config.budgets, kept.facts["budget_parts"], strict=True):
        cost = None
        if budget.kind == "latency":
            cost = _measured(budget, part, network, choices=choices, source=source)
            if _over(cost, part):
                say(f"budget {budget}: the trained network {_measures(cost, part)}")
        missed.append(cost if cost is not None and _over(cost, part) else None)
        parts.append(dict(part) | ({} if cost is None else {"finished": cost}))
    measured = replace(kept, facts=dict(kept.facts) | {"budget_parts": parts})
    if all(cost is None for cost in missed):
        return measured
    found = cheaper(kept, tuple(choices.values()), missed)
    if found is None:
        say("nothing cheaper is within the layers' bounds, so the network stays as it is")
    return found or measured


def _measured(
    budget: Budget,
    part: Mapping[str, Any],
    network: nn.Module,
    *,
    choices: Mapping[str, LayerChoice],
    source: CostSource,
) -> float:
    """A measured cost; above the budget the median of several, as a busy machine disturbs one."""
    source.pace(budget, earlier=part.get("pace"))
    first = source.measure(budget, network, choices)
    if not _over(first, part):
        return first
    more = (source.measure(budget, network, choices) for _ in range(_REPEATS - 1))
    return median([first, *more])


def _over(cost: float, part: Mapping[str, Any]) -> bool:
    """Whether a cost is above what was asked for."""
    return bool(cost > part["most"] * (1 + 1e-9))


def _measures(cost: float, part: Mapping[str, Any]) -> str:
    unit = part["unit"]
    return (
        f"measures {cost_text(unit, cost)}, above {cost_text(unit, part['most'])} "
        f"(median of {_REPEATS} measurements)"
    )
