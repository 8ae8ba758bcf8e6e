"""What SR-STE, MdGf and SdGf share: N:M masks that are made anew at every step."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ws_learner.errors import UserError
from ws_learner.methods.live_masks import LiveMasks, Piece
from ws_learner.patterning import Remainder, by_role, left_out, pattern_plan
from ws_learner.sparsity.any_nm import AnyNM
from ws_learner.sparsity.mask import count_zeros
from ws_learner.sparsity.nm import NM
from ws_learner.sparsity.nm_schedule import Phases
from ws_learner.sparsity.pattern import ByRole, Pattern
from ws_learner.sparsity.slices import Slices

__all__ = ["FineTuneMask", "NMConfig", "NMTraining"]

FineTuneMask = Literal["dynamic", "frozen"]


@dataclass(frozen=True, kw_only=True)
class NMConfig(ABC):
    """Settings of every method that trains under N:M masks.

    Attributes:
        pattern: `NM`; `AnyNM`, with an N for each layer by its number of zeros; or either by role.
        dense: Share of all steps trained densely at the start, in [0, 1].
        fine_tune: Share of all steps at the end under the exact pattern, in [0, 1].
        phases: Takes the place of both.
        fine_tune_mask: `frozen` fixes the masks when fine-tuning begins; `dynamic` lets them
            follow the weights to the end.
        remainder: What becomes of a layer whose rows M does not divide.
    """

    pattern: Pattern = field(default_factory=lambda: NM(2, 4))
    dense: float = 0.05
    fine_tune: float = 0.2
    phases: Phases | None = None
    fine_tune_mask: FineTuneMask = "dynamic"
    remainder: Remainder = "pad"

    def targets(self, model: nn.Module) -> dict[str, int]:
        """Zeros of each weight that the pattern alone prescribes, by parameter name.

        Raises:
            UserError: The pattern leaves N open, or names no roles.
        """
        if not isinstance(self.pattern, ByRole):
            raise UserError(
                f"the pattern {self.pattern} says nothing of where: name zeros or ratios for "
                f"each layer, or roles, such as {self.pattern}@ff"
            )
        found = by_role(model, self.pattern)
        if any(isinstance(pattern, AnyNM) for pattern in found.values()):
            raise UserError(f"the pattern {self.pattern} leaves N open: name zeros or ratios")
        out = left_out(model, found, pattern=self.pattern, remainder=self.remainder)
        return self.feasible(
            model, {n: model.get_parameter(n).numel() for n in found if n not in out}
        )

    def feasible(self, model: nn.Module, zeros: Mapping[str, int]) -> dict[str, int]:
        """See `MethodConfig.feasible`: all groups of a layer, or none."""
        asked = [name for name, count in zeros.items() if count]
        out = left_out(model, asked, pattern=self.pattern, remainder=self.remainder)
        names = [name for name in asked if name not in out]
        plan = pattern_plan(model, names, pattern=self.pattern)
        fitted = dict.fromkeys(zeros, 0)
        for name, pattern in plan.patterns.items():
            shape = plan.shapes[name]
            if isinstance(pattern, AnyNM):
                fitted[name] = pattern.feasible(shape, zeros[name])
            else:
                fitted[name] = plan.most(name)
        return fitted

    def build(self, model: nn.Module, *, zeros: Mapping[str, int], total_steps: int) -> NMTraining:
        """Set the method up; see `MethodConfig.build`."""
        parameters = dict(model.named_parameters(remove_duplicate=False))
        plan = pattern_plan(model, zeros, pattern=self.pattern)
        pieces: list[Piece] = []
        for name, count in zeros.items():
            shape = plan.shapes[name]
            pieces += _pieces(name, _fixed(plan.patterns[name], shape, count), shape)
        phases = self.phases or Phases.of_shares(
            total_steps, dense=self.dense, fine_tune=self.fine_tune
        )
        masks = LiveMasks({name: parameters[name] for name in zeros}, pieces)
        return self._method(masks, zeros=zeros, phases=phases)

    @abstractmethod
    def _method(
        self, masks: LiveMasks, *, zeros: Mapping[str, int], phases: Phases
    ) -> NMTraining: ...


def _fixed(pattern: Pattern, shape: tuple[int, ...], zeros: int) -> NM | Slices:
    if isinstance(pattern, AnyNM):
        return pattern.at(pattern.n_of(shape, zeros))
    if isinstance(pattern, NM | Slices):
        return pattern
    raise UserError(f"--ws_pattern {pattern}: this method trains N:M patterns, such as 2:4")


def _pieces(name: str, pattern: NM | Slices, shape: tuple[int, ...]) -> list[Piece]:
    if isinstance(pattern, NM):
        return [Piece(name, slice(0, shape[0]), pattern)]
    rows = pattern.rows(shape[0])
    return [
        Piece(name, where, part)
        for part, where in zip(pattern.parts, rows, strict=True)
        if part is not None
    ]


class NMTraining:
    """Masks by magnitude of the latent weights, from the forward pass at step `begin` on.

    Subclasses say which patterns hold at a step, what pruned weights are multiplied by, and how
    gradients are edited.
    """

    def __init__(
        self, config: NMConfig, masks: LiveMasks, *, zeros: Mapping[str, int], phases: Phases
    ) -> None:
        """Start dense; `zeros` holds the final number of zeros of each weight."""
        self._config, self._live, self._phases = config, masks, phases
        self._zeros, self._loaded = dict(zeros), False
        self._edited: dict[str, Tensor] = {}
        self._optimizer: Optimizer | None = None

    def patterns(self, step: int) -> Sequence[NM]:
        """Pattern of each piece at a step."""
        return [piece.target for piece in self._live.pieces]

    def mask_value(self, step: int) -> float:
        """What pruned weights are multiplied by at a step, in [0, 1]."""
        return 1.0 if step < self._phases.begin else 0.0

    def _edit(self, grads: Mapping[str, Tensor]) -> None:
        """Edit the gradients, which are by the masked weights."""

    def _before_update(self, optimizer: Optimizer) -> None:
        """Edit the latent weights right before the optimizer does."""

    @property
    def masks(self) -> Mapping[str, Tensor]:
        """See `Method`."""
        return self._live.masks

    @property
    def latent(self) -> Mapping[str, Tensor]:
        """Parameter name -> the dense weight behind the masked one; not to be written to."""
        return self._live.latent

    def planned_zeros(self, step: int) -> dict[str, int]:
        """See `Method`: none as long as pruned weights are not quite zero."""
        if self.mask_value(step) > 0:
            return dict.fromkeys(self._zeros, 0)
        planned = dict.fromkeys(self._zeros, 0)
        for piece, pattern in zip(self._live.pieces, self.patterns(step), strict=True):
            rows = piece.rows.stop - piece.rows.start
            shape = (rows, *self._live.latent[piece.name].shape[1:])
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
        self._live.to_device()
        if step == 0 and not self._loaded:
            self._live.remember()
            self._mask(0)

    def on_gradients(self) -> None:
        """See `Method`: the step begins."""
        self._live.restore()
        if self._optimizer is not None:
            self._before_update(self._optimizer)

    def before_step(self) -> None:
        """See `Method`; a gradient that has been edited is left alone."""
        grads = {n: w.grad for n, w in self._live.weights.items() if w.grad is not None}
        fresh = {name: g for name, g in grads.items() if self._edited.get(name) is not g}
        if not fresh:
            return
        if self._frozen(self._now):
            self._live.scale_pruned(fresh, dict.fromkeys(fresh, 0.0))
        else:
            self._edit(fresh)
        self._edited |= fresh

    def after_step(self, optimizer: Optimizer, step: int) -> None:
        """See `Method`."""
        self._edited = {}
        self._live.remember()
        self._mask(step)

    _now = 0  # steps done when the masks were made

    def _frozen(self, step: int) -> bool:
        return self._config.fine_tune_mask == "frozen" and step > self._phases.fine_tune

    def _mask(self, step: int) -> None:
        self._now = step
        if step < self._phases.begin:
            return  # all ones, and the parameters are the latent weights
        if not self._frozen(step):
            self._live.renew(self.patterns(step))
        self._live.apply(self.mask_value(step))

    def penalty(self) -> Tensor:
        """See `Method`: zero."""
        weights = self._live.weights.values()
        return torch.zeros((), device=next((w.device for w in weights), None))

    def finish(self, step: int) -> None:
        """See `Method`.

        Raises:
            UserError: Training ended before the final pattern was reached.
            RuntimeError: The number of pruned weights is wrong; a defect of this program.
        """
        if step < self._phases.fine_tune:
            raise UserError(
                f"training ended at step {step}, before the final pattern, which begins at step "
                f"{self._phases.fine_tune}: train longer, or raise --nm_fine_tune_epochs"
            )
        before = self.mask_value(self._phases.fine_tune - 1)
        if step == self._phases.fine_tune and before > 0.01 and step > self._phases.begin:
            warnings.warn(
                f"pruned weights were still multiplied by {before:.3f} at the last step: the "
                "network was never trained under its final mask; fine-tune, or decay faster",
                stacklevel=3,
            )
        for name, weight in self._live.weights.items():
            mask = self._live.masks[name]
            if (pruned := count_zeros(mask)) != self._zeros[name]:
                raise RuntimeError(f"{name}: {pruned} pruned, not {self._zeros[name]}")
            with torch.no_grad():
                weight.masked_fill_(~mask, 0)  # a product of NaN or -0 is no plain zero

    def state_dict(self) -> dict[str, Tensor]:
        """See `Method`."""
        return self._live.state_dict() | {"now": torch.tensor(self._now)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """See `Method`."""
        rest = dict(state)
        if "now" not in rest:
            raise UserError("the saved state is of another method: `now` is missing")
        now = int(rest.pop("now"))
        self._live.load_state_dict(rest)
        self._now, self._loaded = now, True
        self._live.restore()
        self._live.apply(self.mask_value(now))
