"""Warm-up clock: current epoch, threshold, and penalty factor."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from ws_learner.core import UserError
from ws_learner.pruning.methods.warm_up_settings import WarmUpSettings
from ws_learner.pruning.schedules.movement_warmup import WarmUp

__all__ = ["WarmUpClock"]


class WarmUpClock:
    """Counts optimizer steps, and measures the epoch length where it is not given.

    Attributes:
        step: Optimizer steps done.
        ramp: The schedule; None until the length of an epoch is known.
    """

    def __init__(self, config: WarmUpSettings, total_steps: int) -> None:
        """Begin at step 0 of `total_steps`.

        Raises:
            UserError: The warm-up ends after the training.
        """
        self._config, self._total, self._epoch_step = config, total_steps, -1
        self.step, self._first = 0, config.init_importance_threshold
        if self._first is not None:
            self._warn_if_flat(self._first)
        self.ramp: WarmUp | None = None
        if config.steps_per_epoch is not None:
            self._set_epoch(config.steps_per_epoch)

    @property
    def begun(self) -> bool:
        """Whether the warm-up has begun."""
        return self.ramp is not None and self.step >= self.ramp.begin_step

    @property
    def over(self) -> bool:
        """Whether it has ended, too."""
        return self.ramp is not None and self.step >= self.ramp.end_step

    @property
    def threshold(self) -> float:
        """The schedule's threshold now; minus infinity before the warm-up."""
        if self.ramp is None or not self.begun or self._first is None:
            return -math.inf
        last = self._config.final_importance_threshold
        return self._first + self.ramp.share(self.step) * (last - self._first)

    @property
    def factor(self) -> float:
        """The penalty's factor now."""
        share = 0.0 if self.ramp is None else self.ramp.share(self.step)
        return share * self._config.importance_regularization_factor

    @property
    def wants_first(self) -> bool:
        """Whether the first threshold is to be taken from the scores."""
        return self._first is None

    def set_first(self, threshold: float) -> None:
        """Begin the schedule at `threshold`; warns if it will not rise."""
        self._first = threshold
        self._warn_if_flat(threshold)

    def epoch_begin(self, step: int) -> None:
        """An epoch begins after `step` optimizer steps; the second one tells how long they are.

        Raises:
            UserError: An epoch had another length than the schedule was made for.
        """
        counted = step - self._epoch_step
        if self._epoch_step >= 0 and counted:
            if self.ramp is None:
                self._set_epoch(counted)
            elif counted != self.ramp.steps_per_epoch:
                raise UserError(
                    f"steps_per_epoch {self.ramp.steps_per_epoch}: the epoch that ended had "
                    f"{counted} steps. Scheduling may be incorrect; give the right number"
                )
        self._epoch_step = step

    def state_dict(self) -> dict[str, Tensor]:
        """Step, epoch and first threshold."""
        epoch = self.ramp.steps_per_epoch if self.ramp else -1
        first = math.nan if self._first is None else self._first
        return {
            "now": torch.tensor(self.step),
            "epoch_step": torch.tensor(self._epoch_step),
            "steps_per_epoch": torch.tensor(epoch),
            "first_threshold": torch.tensor(first, dtype=torch.float64),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state_dict` gave."""
        self.step, self._epoch_step = int(state["now"]), int(state["epoch_step"])
        first, epoch = float(state["first_threshold"]), int(state["steps_per_epoch"])
        self._first = None if math.isnan(first) else first
        if epoch > 0:
            self._set_epoch(epoch)

    def _warn_if_flat(self, first: float) -> None:
        last = self._config.final_importance_threshold
        if first >= last:
            warnings.warn(
                f"`init_importance_threshold` {first:g} is equal to or greater than "
                f"`final_importance_threshold` {last:g}: the threshold will not rise",
                stacklevel=4,
            )

    def _set_epoch(self, steps: int) -> None:
        self.ramp = self._config.warm_up(steps)
        if self.ramp.end_step > self._total:
            raise UserError(
                f"movement: the warm-up ends at step {self.ramp.end_step}, the training at "
                f"{self._total}: lower warmup_end_epoch or train longer"
            )
