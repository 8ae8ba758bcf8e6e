"""A structured profile within the budgets of the settings, as the decision of an allocation."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from envs import LayerRow
from ws_learner.config import PROTOCOLS, Budget, WeightSparseConfig
from ws_learner.core import RunDir, UserError, load_into, save_model, say
from ws_learner.data import DataSplits
from ws_learner.pruning import CoupledUnits, count_zeros, parameter_of
from ws_learner.report import cost_text
from ws_learner.search.allocation import Decision
from ws_learner.search.costs.source import CostSource
from ws_learner.search.problem import build_rollout_config
from ws_learner.search.structured.structured_profile import StructuredProfile, structured_profile
from ws_learner.search.structured.unit_costs import UnitCosts, WeightCosts
from ws_learner.training import Loss, Metric

__all__ = ["StructuredAllocation", "structured_network"]

_FILE = "structured.safetensors"
_CLOSED_FORM = 2  # variants that need no search


@dataclass(frozen=True, kw_only=True, eq=False)
class _Shares:
    """Several costs as one: the largest share of a budget that is spent."""

    parts: Sequence[UnitCosts]
    most: Sequence[float]

    unit = "share of the budget"

    @property
    def digest(self) -> str:
        """Of the parts."""
        return " ".join(part.digest for part in self.parts)

    @property
    def levels(self) -> Sequence[Sequence[int]]:
        """Those of the first part, which is measured on a grid."""
        return self.parts[0].levels

    def total(self, kept: Sequence[int]) -> float:
        """See `UnitCosts`."""
        pairs = zip(self.parts, self.most, strict=True)
        return max(part.total(kept) / most for part, most in pairs)


class _FileCosts:
    """Bytes of the exported float32 network: four for each parameter, and what else there is.

    Args:
        weights: Numbers of parameters.
        dense: Size of the dense network's file.
        full: Units of each set.
    """

    unit = "bytes"

    def __init__(self, weights: WeightCosts, dense: float, *, full: Sequence[int]) -> None:
        self._weights, self.levels, self.digest = weights, weights.levels, weights.digest
        self._rest = dense - 4 * weights.total(full)

    def total(self, kept: Sequence[int]) -> float:
        """See `UnitCosts`."""
        return 4 * self._weights.total(kept) + self._rest


@dataclass(kw_only=True)
class StructuredAllocation:
    """Removes whole channels, heads and neurons until an engine is fast enough.

    Attributes:
        model: The dense network.
        data: The data splits.
        layers: The layer table.
        loss: Task loss.
        metric: Score of each example.
        config: The settings.
        source: Measures costs.
        seed: Seed of all random numbers.
        run: The run directory; the pruned network is kept in its state.
    """

    model: nn.Module
    data: DataSplits
    layers: tuple[LayerRow, ...]
    loss: Loss
    metric: Metric
    config: WeightSparseConfig
    source: CostSource
    seed: int
    run: RunDir

    def check(self) -> None:
        """Refuse a network of which nothing can be removed.

        Raises:
            UserError: It is one, or it cannot be traced.
        """
        self._sets(says=False)

    def decide(self) -> Decision:
        """Choose the units and prune them.

        Raises:
            UserError: Nothing can be removed, or the budgets cannot be met.
        """
        budgets = sorted(self.config.budgets, key=lambda one: one.kind != "latency")
        sets = self._sets()
        most = []
        for budget in budgets:
            reference = self.source.dense(budget) if budget.share else 1.0
            most.append(budget.amount * reference)
            say(f"budget {budget}: at most {cost_text(budget.unit, most[-1])}")
        paces = [self.source.pace(budget) for budget in budgets]
        parts = [self._costs(budget, sets) for budget in budgets]
        costs = _Shares(parts=parts, most=most)
        self._refuse_unreachable(costs, budgets)

        measurable = [
            (budget, limit)
            for budget, limit in zip(budgets, most, strict=True)
            if budget.kind in ("latency", "bytes")
        ]

        def measure(network: nn.Module) -> float:
            return max(self.source.measure(one, network, {}) / limit for one, limit in measurable)

        searches = PROTOCOLS[self.config.ws_prune_ratio_prtl].propose is not None
        profile = structured_profile(
            self.model,
            self.data,
            sets=sets,
            costs=costs,
            budget=1.0,
            loss=self.loss,
            metric=self.metric,
            measure=measure,
            config=build_rollout_config(self.config),
            nb_rollouts=max(self.config.ws_nb_rlouts, _CLOSED_FORM) if searches else _CLOSED_FORM,
            seed=self.seed,
        )
        save_model(self.run.state / _FILE, profile.model.state_dict(), {"format": "pt"})
        kept = [profile.kept[one.name] for one in sets]
        facts = _facts(profile, sets) | {"budget": self.config.ws_budget}
        facts |= {"protocol": self.config.ws_prune_ratio_prtl, "pattern": "whole units"}
        facts["budget_parts"] = [
            {
                "budget": str(budget),
                "unit": budget.unit,
                "most": limit,
                "predicted": part.total(kept),
                "digest": part.digest,
            }
            | ({} if pace is None else {"pace": pace})
            for budget, limit, part, pace in zip(budgets, most, parts, paces, strict=True)
        ]
        facts["budget_parts"].sort(key=lambda one: self._place(one["budget"]))
        zeros = [count_zeros(parameter_of(profile.model, row.name)) for row in self.layers]
        return Decision(
            zeros=np.array(zeros, dtype=np.int64), rollouts=len(profile.variants), facts=facts
        )

    def _costs(self, budget: Budget, sets: Sequence[CoupledUnits]) -> UnitCosts:
        if budget.kind == "latency":
            return self.source.unit_costs(budget, sets)
        if budget.kind == "bytes":
            weights = WeightCosts(self.model, sets, unit="params")
            dense = self.source.measure(budget, self.model, {})
            return _FileCosts(weights, dense, full=[one.units for one in sets])
        return WeightCosts(self.model, sets, unit=budget.kind, layers=self.layers)

    def _place(self, budget: str) -> int:
        return [str(one) for one in self.config.budgets].index(budget)

    def _sets(self, *, says: bool = True) -> Sequence[CoupledUnits]:
        """The sets without layers that stay dense."""
        held = {row.name for row in self.layers if row.exempt}
        listed = {row.name for row in self.layers}
        every = self.source.coupled_units(says=says)
        found = [one for one in every if not _made_by(self.model, one) & held]
        found = [one for one in found if _made_by(self.model, one) & listed]
        if not found:
            raise UserError(
                f"`ws_budget` {self.config.ws_budget}: no channels, heads or neurons of this "
                "network can be removed; take latency@wsr, which needs no whole units"
            )
        return found

    def _refuse_unreachable(self, costs: _Shares, budgets: Sequence[Budget]) -> None:
        least = [own[0] for own in costs.levels]
        for part, most, budget in zip(costs.parts, costs.most, budgets, strict=True):
            low, dense = part.total(least), part.total([own[-1] for own in costs.levels])
            if low > most:
                raise UserError(
                    f"`ws_budget` {budget}: with the fewest units kept the network "
                    f"is predicted at {cost_text(budget.unit, low)} ({low / dense:.3f} of the "
                    "dense network's); raise it"
                )


def structured_network(model: nn.Module, run: RunDir) -> nn.Module:
    """The pruned and regressed network that a structured allocation left in a run."""
    network = copy.deepcopy(model)
    load_into(network, run.state / _FILE)
    return network


def _made_by(model: nn.Module, one: CoupledUnits) -> set[str]:
    """Weights of the layers whose outputs are units of the set."""
    return {f"{part.layer}.weight" for part in one.parts if part.side == "outputs"}


def _facts(profile: StructuredProfile, sets: Sequence[CoupledUnits]) -> dict[str, Any]:
    units = {one.name: one.units for one in sets}
    removed = {name: units[name] - kept for name, kept in profile.kept.items()}
    return {
        "structured": True,
        "units_removed": {name: count for name, count in removed.items() if count},
        "pruned_divergence": profile.divergence,
    }
