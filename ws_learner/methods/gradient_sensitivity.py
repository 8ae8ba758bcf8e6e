"""Gradient sensitivity: heads, channels or weights go whose scaling would change the loss least."""

from __future__ import annotations

from dataclasses import dataclass

from ws_learner.errors import UserError
from ws_learner.methods.gradual import GradualConfig
from ws_learner.sparsity.criterion import Criterion, Sensitivity
from ws_learner.sparsity.plan import PatternPlan
from ws_learner.sparsity.ramps import RampName

__all__ = ["GradientSensitivityConfig"]


@dataclass(frozen=True, kw_only=True)
class GradientSensitivityConfig(GradualConfig):
    """Gradual pruning by importances that are added up over the steps, see `Sensitivity`.

    With the pattern `mha` heads go, with `1xchannel` and `channelx1` neurons, with blocks blocks;
    unstructured and N:M score single weights, LPOT's element-wise mode. By default everything goes
    at once, at the end of the ramp. The order of what is left never changes.

    Attributes:
        normalize: Divide the importances of each layer by their norm, so that layers compare
            under the global scope.

    Raises:
        UserError: Another criterion is asked for; this method has its own.
    """

    ramp: RampName = "oneshot"
    normalize: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.criterion != "magnitude":
            raise UserError(
                f"--ws_criterion {self.criterion}: gradient_sensitivity has a criterion of its "
                "own; leave the flag out"
            )

    def make_criterion(self, plan: PatternPlan) -> Criterion:
        """The accumulated importance."""
        return Sensitivity(plan.patterns, normalize=self.normalize)
