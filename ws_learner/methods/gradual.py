"""Gradual magnitude pruning: sparsity rises along a ramp while the network trains."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ws_learner.errors import UserError
from ws_learner.methods.in_place import InPlaceMasks
from ws_learner.sparsity.criterion import magnitude
from ws_learner.sparsity.mask import count_zeros
from ws_learner.sparsity.pattern import Pattern, Unstructured
from ws_learner.sparsity.schedule import PolynomialSchedule, check_ratios

__all__ = ["Gradual", "GradualConfig"]


@dataclass(frozen=True, kw_only=True)
class GradualConfig:
    """Settings of gradual pruning; the names are the flags without `ws_`.

    Attributes:
        prune_ratio_exp: Exponent of the ramp, above 0.
        iter_ratio_beg: Share of all optimizer steps at which the ramp begins, in [0, 1).
        iter_ratio_end: Share at which it ends, in (iter_ratio_beg, 1].
        mask_update_step: Optimizer steps between two mask updates, from 1 to the ramp's length.
        pattern: Which weights are pruned together.

    Raises:
        UserError: A value is outside its range; the line names the flag.
    """

    prune_ratio_exp: float = 3.0
    iter_ratio_beg: float = 0.1
    iter_ratio_end: float = 0.5
    mask_update_step: int = 25
    pattern: Pattern = field(default_factory=Unstructured)

    def __post_init__(self) -> None:
        if not 0 < self.prune_ratio_exp < math.inf:
            raise UserError(f"--ws_prune_ratio_exp {self.prune_ratio_exp}: must be above 0")
        check_ratios(self.iter_ratio_beg, self.iter_ratio_end)
        if self.mask_update_step < 1:
            raise UserError(
                f"--ws_mask_update_step {self.mask_update_step}: allowed are whole numbers from 1"
            )

    def schedule(self, total_steps: int) -> PolynomialSchedule:
        """Lay the ramp over a training of `total_steps` optimizer steps.

        Raises:
            UserError: The ramp does not fit, or is shorter than one mask update interval.
        """
        ramp = PolynomialSchedule.from_ratios(
            total_steps, self.iter_ratio_beg, self.iter_ratio_end, self.prune_ratio_exp
        )
        length = ramp.end_step - ramp.begin_step
        if self.mask_update_step > length:
            raise UserError(
                f"--ws_mask_update_step {self.mask_update_step} is longer than the ramp of "
                f"{length} steps, so all weights would go at once: lower it to at most {length}, "
                "or raise --nb_epochs"
            )
        return ramp

    def build(self, model: nn.Module, *, zeros: Mapping[str, int], total_steps: int) -> Gradual:
        """Set gradual pruning up; see `MethodConfig.build`."""
        parameters = dict(model.named_parameters(remove_duplicate=False))
        weights = {name: parameters[name] for name in zeros}
        return Gradual(self, weights, zeros=zeros, schedule=self.schedule(total_steps))


class Gradual:
    """Zhu & Gupta 2017, section 3, with the retained weights of PocketFlow.

    A layer with z final zeros has round(share(t) z) of them after the mask update at step t, and
    exactly z from t_e on, when masks are frozen. Masks are computed from the values that pruned
    weights had when they were last alive, so such a weight may come back with its old value.
    """

    def __init__(
        self,
        config: GradualConfig,
        weights: Mapping[str, nn.Parameter],
        *,
        zeros: Mapping[str, int],
        schedule: PolynomialSchedule,
    ) -> None:
        """Start dense; `zeros` holds the final number of zeros of each of the `weights`."""
        self._in_place = InPlaceMasks(weights)
        self._pattern, self._zeros, self._schedule = config.pattern, dict(zeros), schedule
        self._every = config.mask_update_step

    @property
    def masks(self) -> Mapping[str, Tensor]:
        """See `Method`."""
        return self._in_place.masks

    def planned_zeros(self, step: int) -> dict[str, int]:
        """See `Method`."""
        share = self._schedule.share(step)
        return {name: round(share * zeros) for name, zeros in self._zeros.items()}

    def attach(self, optimizer: Optimizer, step: int) -> None:
        """See `Method`."""
        self._in_place.to_device()

    def before_step(self) -> None:
        """See `Method`."""
        self._in_place.mask_gradients()

    def after_step(self, optimizer: Optimizer, step: int) -> None:
        """See `Method`."""
        if self._schedule.is_update(step, self._every):
            self._renew(step)
            self._in_place.mask_state(optimizer)
        else:
            self._in_place.mask_weights()

    def _renew(self, step: int) -> None:
        planned, masks = self.planned_zeros(step), {}
        for name, value in self._in_place.dense_values().items():
            try:
                masks[name] = self._pattern.mask(magnitude(value), planned[name])
            except ValueError as error:
                raise UserError(f"pruning {name} at step {step}: {error}") from error
        self._in_place.renew(masks)

    def penalty(self) -> Tensor:
        """See `Method`: zero."""
        weights = self._in_place.weights.values()
        return torch.zeros((), device=next((w.device for w in weights), None))

    def finish(self, step: int) -> None:
        """See `Method`.

        Raises:
            UserError: The ramp has not ended, so there are too few zeros.
            RuntimeError: The number of pruned weights is wrong; a defect of this program.
        """
        if step < self._schedule.end_step:
            raise UserError(
                f"training ended at step {step}, before the ramp's last step "
                f"{self._schedule.end_step}: train longer or lower --ws_iter_ratio_end"
            )
        for name, weight in self._in_place.weights.items():
            pruned = ~self.masks[name]
            if int(pruned.sum()) != self._zeros[name]:
                raise RuntimeError(f"{name}: {int(pruned.sum())} pruned, not {self._zeros[name]}")
            with torch.no_grad():
                weight.masked_fill_(pruned, 0)
            if more := count_zeros(weight) - self._zeros[name]:
                warnings.warn(f"{name}: {more} kept weights happen to be 0 as well", stacklevel=2)

    def state_dict(self) -> dict[str, Tensor]:
        """See `Method`."""
        return self._in_place.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """See `Method`."""
        self._in_place.load_state_dict(state)
