"""Where costs come from that must be measured: implemented above the search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import nn

from envs import LayerRow
from ws_learner.config import Budget
from ws_learner.core import LayerChoice, LayerCosts
from ws_learner.pruning import CoupledUnits
from ws_learner.search.structured.unit_costs import UnitCosts

__all__ = ["CostSource"]


class CostSource(Protocol):
    """Measures costs on this machine."""

    def check(self, budgets: Sequence[Budget], *, patterns: Sequence[str]) -> None:
        """Refuse what cannot be measured here, before any work.

        Raises:
            UserError: An engine is not installed, or a pattern has no cost of its own.
        """

    def table(
        self, budget: Budget, layers: Sequence[LayerRow], choices: Sequence[Sequence[LayerChoice]]
    ) -> LayerCosts:
        """Costs of the choices of each layer, in the budget's unit.

        Raises:
            UserError: The engine is not installed.
        """

    def dense(self, budget: Budget) -> float:
        """Cost of the dense network that a share refers to, with a line that says of what."""

    def pace(self, budget: Budget, *, earlier: float | None = None) -> float | None:
        """Milliseconds of the dense network in the engine that measures; None for other units.

        All that is measured later is told at this pace of the machine, which may change by a fifth
        within minutes. `earlier` is the pace of an earlier call on the same run.
        """

    def compiled(
        self, budget: Budget, network: nn.Module, choices: Mapping[str, LayerChoice]
    ) -> nn.Module:
        """The network as our runtime runs it, with each layer in its number format."""

    def coupled_units(self, *, says: bool = True) -> Sequence[CoupledUnits]:
        """Units of the network that can be removed together; a line for each layer that stays."""

    def unit_costs(self, budget: Budget, sets: Sequence[CoupledUnits]) -> UnitCosts:
        """Milliseconds by the numbers of units that the sets keep.

        Raises:
            UserError: The engine is not installed, or cannot run the network.
        """

    def measure(
        self, budget: Budget, network: nn.Module, choices: Mapping[str, LayerChoice]
    ) -> float:
        """Cost of a finished network; `choices` by parameter name.

        Without choices whole units are zero, and are removed before it is measured.
        """
