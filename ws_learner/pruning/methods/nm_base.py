"""Base of SR-STE, MdGf and SdGf: N:M masks recomputed at every step."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from ws_learner.core import UserError
from ws_learner.pruning.methods.fresh_gradients import FreshGradients
from ws_learner.pruning.methods.nm_config import NMConfig
from ws_learner.pruning.methods.shadow_masks import ShadowMasks
from ws_learner.pruning.patterns.mask import count_zeros
from ws_learner.pruning.patterns.nm import NM
from ws_learner.pruning.schedules.nm_phases import Phases

__all__ = ["NMTraining"]


class NMTraining:
    """Masks by magnitude of the shadow weights, from the forward pass at step `begin` on.

    Subclasses say which patterns hold at a step, what pruned weights are multiplied by, and how
    gradients are edited.
    """

    def __init__(
        self, config: NMConfig, masks: ShadowMasks, *, zeros: Mapping[str, int], phases: Phases
    ) -> None:
        """Start dense; `zeros` holds the final number of zeros of each weight."""
        self._config, self._shadow_masks, self._phases = config, masks, phases
        self._zeros, self._loaded = dict(zeros), False
        self._fresh = FreshGradients()
        self._optimizer: Optimizer | None = None
        self._in_step = False  # the parameters hold latent weights

    def patterns(self, step: int) -> Sequence[NM]:
        """Pattern of each piece at a step."""
        return [piece.target for piece in self._shadow_masks.pieces]

    def mask_value(self, step: int) -> float:
        """What pruned weights are multiplied by at a step, in [0, 1]."""
        return 1.0 if step < self._phases.begin else 0.0

    def _edit(self, grads: Mapping[str, Tensor]) -> None:
        """Edit the gradients, which are by the masked weights."""

    def _before_update(self, optimizer: Optimizer) -> None:
        """Edit the shadow weights right before the optimizer step."""

    @property
    def masks(self) -> Mapping[str, Tensor]:
        """See `Method`."""
        return self._shadow_masks.masks

    @property
    def shadow(self) -> Mapping[str, Tensor]:
        """Parameter name -> the dense weight behind the masked one; not to be written to."""
        return self._shadow_masks.shadow

    def planned_zeros(self, step: int) -> dict[str, int]:
        """See `Method`: none as long as pruned weights are not quite zero."""
        if self.mask_value(step) > 0:
            return dict.fromkeys(self._zeros, 0)
        planned = dict.fromkeys(self._zeros, 0)
        for piece, pattern in zip(self._shadow_masks.pieces, self.patterns(step), strict=True):
            rows = piece.rows.stop - piece.rows.start
            shape = (rows, *self._shadow_masks.shadow[piece.name].shape[1:])
            planned[piece.name] += pattern.most(shape)
        return planned

    def attach(self, optimizer: Optimizer, step: int) -> None:
        """See `Method`.

        Raises:
            UserError: The optimizer runs the model within its step.
        """
        if isinstance(optimizer, torch.optim.LBFGS):
            raise UserError("LBFGS runs the model within its step, where weights are not masked")
        self._optimizer = optimizer
        self._shadow_masks.to_device()
        if step == 0 and not self._loaded:
            self._shadow_masks.remember()
            self._mask(0)

    reads_gradients = False
    sets_gradients = False

    @property
    def adds_terms(self) -> bool:
        """See `UsesGradients`."""
        return False

    def new_gradients(self) -> None:
        """See `UsesGradients`.

        Raises:
            UserError: Within a step the network that made them is not the masked one.
        """
        if self._in_step:
            raise UserError(
                "`closure` was called twice within a step, where weights are not masked: take an "
                "optimizer that calls it once, or another method"
            )
        self._fresh.forget()

    def on_gradients(self) -> None:
        """See `Method`: the step begins."""
        self._take_over_writes()
        self._shadow_masks.restore()
        self._in_step = True
        if self._optimizer is not None:
            self._before_update(self._optimizer)

    def before_step(self) -> None:
        """See `Method`; a gradient that has been edited is left alone."""
        self._take_over_writes()
        fresh = self._fresh.take(self._shadow_masks.weights)
        if not fresh:
            return
        if self._frozen(self._now):
            self._shadow_masks.scale_pruned(fresh, dict.fromkeys(fresh, 0.0))
        else:
            self._edit(fresh)

    def after_step(self, optimizer: Optimizer, step: int) -> None:
        """See `Method`."""
        self._shadow_masks.remember()
        self._in_step = False
        self._mask(step)

    def _take_over_writes(self) -> None:
        if not self._in_step:
            self._shadow_masks.take_over_writes()

    _now = 0  # steps done when the masks were made

    def _frozen(self, step: int) -> bool:
        return self._config.fine_tune_mask == "frozen" and step > self._phases.fine_tune

    def _mask(self, step: int) -> None:
        self._now = step
        if step < self._phases.begin:
            return  # all ones, and the parameters are the latent weights
        if not self._frozen(step):
            self._shadow_masks.update_masks(self.patterns(step))
        self._shadow_masks.apply(self.mask_value(step))

    def penalty(self) -> Tensor:
        """See `Method`: zero."""
        weights = self._shadow_masks.weights.values()
        return torch.zeros((), device=next((w.device for w in weights), None))

    def is_finished(self, step: int) -> bool:
        """See `HasEnd`."""
        return step >= self._phases.fine_tune

    def finish(self, step: int) -> None:
        """See `Method`.

        Raises:
            UserError: Training ended before the final pattern was reached.
            RuntimeError: The number of pruned weights is wrong; a defect of this program.
        """
        if not self.is_finished(step):
            raise UserError(
                f"training ended at step {step}, before the final pattern, which begins at step "
                f"{self._phases.fine_tune}: train longer, or raise `nm_fine_tune_epochs`"
            )
        before = self.mask_value(self._phases.fine_tune - 1)
        if step == self._phases.fine_tune and before > 0.01 and step > self._phases.begin:
            warnings.warn(
                f"pruned weights were still multiplied by {before:.3f} at the last step: the "
                "network was never trained under its final mask; fine-tune, or decay faster",
                stacklevel=3,
            )
        self._take_over_writes()
        self._shadow_masks.writes.tell()
        for name, weight in self._shadow_masks.weights.items():
            mask = self._shadow_masks.masks[name]
            if (pruned := count_zeros(mask)) != self._zeros[name]:
                raise RuntimeError(f"{name}: {pruned} pruned, not {self._zeros[name]}")
            with torch.no_grad():
                weight.masked_fill_(~mask, 0)  # a product of NaN or -0 is no plain zero

    def state_dict(self) -> dict[str, Tensor]:
        """See `Method`."""
        self._take_over_writes()
        return self._shadow_masks.state_dict() | {"now": torch.tensor(self._now)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """See `Method`."""
        rest = dict(state)
        if "now" not in rest:
            raise UserError("not a state of this method: key `now` is missing")
        now = int(rest.pop("now"))
        self._shadow_masks.load_state_dict(rest)
        self._now, self._loaded = now, True
        self._shadow_masks.restore()
        self._shadow_masks.apply(self.mask_value(now))
