"""What a callback is asked to prune, and whether a checkpoint was asked for the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from ws_learner.core import UserError
from ws_learner.pruning import MethodConfig, Sparsifier

__all__ = ["PruningPlan", "Zeros"]

Zeros = Mapping[str, int] | Callable[[nn.Module], Mapping[str, int]]
"""Parameter name -> number of zeros, or a function of the network that returns that."""


@dataclass(frozen=True, kw_only=True)
class PruningPlan:
    """The arguments of a `Sparsifier`, before there is a network.

    Attributes:
        method_config: E.g. a `GradualConfig`.
        zeros: See `Sparsifier`; or a function of the network, such as `found_zeros`.
        ratios: See `Sparsifier`.
        layers: See `Sparsifier`.
        total_steps: Optimizer steps of the pruning; None: those of the training.

    Raises:
        UserError: Not exactly one of `zeros`, `ratios` and `layers` is given, or `total_steps` is
            no number of steps.
    """

    method_config: MethodConfig
    zeros: Zeros | None = None
    ratios: Mapping[str, float] | None = None
    layers: Iterable[str] | None = None
    total_steps: int | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("zeros", "ratios", "layers") if getattr(self, name) is not None]
        if len(given) != 1:
            what = " and ".join(f"`{name}`" for name in given) or "none of them"
            raise UserError(f"give one of `zeros`, `ratios` and `layers`, not {what}")
        if not callable(getattr(self.method_config, "build", None)):
            raise UserError(
                f"`method_config` {self.method_config!r}: must be a method's settings, such as "
                "GradualConfig()"
            )
        steps = self.total_steps
        if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int)):
            raise UserError(f"`total_steps` {steps!r}: must be a whole number above 0")
        if steps is not None and steps < 1:
            raise UserError(f"`total_steps` {steps}: must be a whole number above 0")

    def steps(self, of_training: float | None) -> int:
        """Optimizer steps of the pruning.

        Args:
            of_training: Optimizer steps that the training will make; None: nobody knows.

        Raises:
            UserError: Nobody knows, or the training ends before the pruning.
        """
        known = of_training is not None and 0 < of_training < math.inf
        if self.total_steps is None:
            if not known or of_training is None:
                raise UserError(
                    "`total_steps`: this training does not say how many optimizer steps it makes; "
                    "give SparsifierCallback(..., total_steps=N), or limit it by its max_steps"
                )
            return int(of_training)
        if known and of_training is not None and of_training < self.total_steps:
            raise UserError(
                f"`total_steps` {self.total_steps}: this training ends after step "
                f"{int(of_training)}; train longer or lower it"
            )
        return self.total_steps

    def build(self, model: nn.Module, total_steps: int) -> Sparsifier:
        """Set the sparsifier up.

        Raises:
            UserError: See `Sparsifier`.
        """
        zeros = self.zeros(model) if callable(self.zeros) else self.zeros
        return Sparsifier(
            model,
            self.method_config,
            zeros=zeros,
            ratios=self.ratios,
            layers=None if self.layers is None else tuple(self.layers),
            total_steps=total_steps,
        )

    def record(self, total_steps: int) -> dict[str, Any]:
        """What a checkpoint remembers of the plan: plain values."""
        asked: Any = self.zeros if self.layers is None else sorted(self.layers)
        if self.ratios is not None:
            asked = {name: float(ratio) for name, ratio in self.ratios.items()}
        elif callable(asked):
            asked = None
        elif isinstance(asked, Mapping):
            asked = {name: int(count) for name, count in asked.items()}
        method = repr(self.method_config)
        return {
            "total_steps": total_steps,
            "zeros, ratios or layers": asked,
            "method_config": None if " at 0x" in method else method,
        }

    def check_same(self, saved: Mapping[str, Any], total_steps: int) -> None:
        """Compare with the plan of the training that is to be continued.

        Raises:
            UserError: They differ: the schedule would jump, and pruned weights come back.
        """
        for name, value in self.record(total_steps).items():
            if value is None or saved[name] is None or value == saved[name]:
                continue
            remedy = "give the same to continue it, or start a new training from its network"
            if name == "total_steps":
                remedy = f"give SparsifierCallback(..., total_steps={saved[name]}) to continue it"
            raise UserError(
                f"`{name}` {value}: the training that wrote the checkpoint had {saved[name]}; "
                f"{remedy}"
            )
