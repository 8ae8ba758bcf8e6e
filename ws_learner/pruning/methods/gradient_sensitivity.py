"""Gradient sensitivity: prune the units that change the loss least when scaled."""

from __future__ import annotations

from dataclasses import dataclass

from ws_learner.config import CRITERIA, ScheduleName
from ws_learner.core import UserError, suggest
from ws_learner.pruning.criteria import Criterion, Sensitivity
from ws_learner.pruning.methods.gradual import GradualConfig
from ws_learner.pruning.patterns.model_plan import PatternPlan

__all__ = ["GradientSensitivityConfig"]


@dataclass(frozen=True, kw_only=True)
class GradientSensitivityConfig(GradualConfig):
    """Gradual pruning by importances that are added up over the steps, see `Sensitivity`.

    With the pattern `mha` heads go, with `1xchannel` and `channelx1` neurons, with blocks blocks;
    unstructured and N:M score single weights, LPOT's element-wise mode. By default everything goes
    at once, at the end of the ramp. The order of what is left never changes.

    Attributes:
        criterion: How a unit's |sum of w g| is remembered: `magnitude`, the default of all methods,
            stands for the sum over all steps; `snip` knows the last step alone, `snip_momentum`
            lets earlier ones fade by 0.9 a step, `gradient` leaves w out.
        normalize: Divide the importances of each layer by their norm, so that layers compare
            under the global scope.
    """

    ramp: ScheduleName = "oneshot"
    normalize: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        known = [name for name, entry in CRITERIA.items() if entry.memory is not None]
        if self.criterion not in known:
            raise UserError(
                f"`criterion` {self.criterion}: gradient_sensitivity does not take it; "
                f"{suggest(self.criterion, known)}"
            )

    def make_criterion(self, plan: PatternPlan) -> Criterion:
        """The importance of units."""
        entry = CRITERIA[self.criterion]
        return Sensitivity(
            plan.patterns,
            normalize=self.normalize,
            of=entry.sensitivity_of,
            memory=1.0 if entry.memory is None else entry.memory,
        )
