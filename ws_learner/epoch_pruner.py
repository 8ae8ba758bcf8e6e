"""Pruning that is driven by epochs and hooks, as LPOT's is; the training loop is anybody's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ws_learner.errors import UserError
from ws_learner.functional import group_lasso_regularize
from ws_learner.methods.in_place import InPlaceMasks
from ws_learner.sparsity.criterion import magnitude
from ws_learner.sparsity.epoch_schedule import EpochFormula, EpochLinearSchedule
from ws_learner.sparsity.pattern import Pattern, Unstructured

__all__ = ["EpochPlan", "EpochPruner"]


@dataclass(frozen=True, kw_only=True)
class EpochPlan:
    """What happens to some parameters. Epochs count from 0.

    Attributes:
        names: Parameters, by name.
        kind: `magnitude`, `sensitivity` (sum of |w g| over the steps), or `lock` (what is zero
            stays zero, nothing else is pruned).
        pattern: Which weights go together.
        start_epoch: First epoch whose begin may renew masks.
        end_epoch: Last epoch of the ramp, inclusive.
        initial: Sparsity at which the ramp starts, in [0, 1].
        target: Sparsity from the last update on, in [0, 1].
        frequency: Epochs between updates; below 1 a share of an epoch, at least one batch.
        formula: Which of LPOT's two schedules, see `EpochLinearSchedule`.
        alpha: Of the group lasso: alpha times the sum of the norms of the pattern's units.
    """

    names: tuple[str, ...]
    kind: str = "magnitude"
    pattern: Pattern = field(default_factory=Unstructured)
    start_epoch: int = 0
    end_epoch: int = 0
    initial: float = 0.0
    target: float = 0.0
    frequency: float = 1.0
    formula: EpochFormula = "new"
    alpha: float = 0.0

    def schedule(self, batches: int | None) -> EpochLinearSchedule:
        """The schedule over batches. Without `batches` (per epoch): once per epoch at most."""
        return EpochLinearSchedule(
            start_epoch=self.start_epoch,
            end_epoch=self.end_epoch,
            steps_per_epoch=batches or 1,
            update_frequency=self.frequency if batches else max(self.frequency, 1.0),
            formula=self.formula,
        )

    def updates_done(self, epoch: int, batch: int, batches: int | None) -> int:
        """Updates that are due up to and with this batch, 0 before the start."""
        schedule, step = self.schedule(batches), _step(epoch, batch, batches)
        if step < schedule.begin_step:
            return 0
        past = min(step, schedule.end_step) - schedule.begin_step
        return past // schedule.period + 1 + (step >= schedule.end_step)

    def sparsity(self, epoch: int, batch: int, batches: int | None) -> float:
        """Planned share of zeros from this batch on; 0 before the start."""
        schedule, step = self.schedule(batches), _step(epoch, batch, batches)
        if step < schedule.begin_step:
            return 0.0
        share = schedule.share(step)
        return self.target if share >= 1 else self.initial + (self.target - self.initial) * share


def _step(epoch: int, batch: int, batches: int | None) -> int:
    """Batches since epoch 0, if every epoch had as many as it should."""
    return epoch * batches + min(batch, batches - 1) if batches else epoch


class EpochPruner:
    """Carries plans out on a model whose training somebody else runs.

    Parameters are changed in place and never replaced. A pruned weight keeps the value it had and
    may come back at a later update; until then gradient, momentum and decay leave it alone.
    """

    def __init__(
        self, model: nn.Module, plans: Sequence[EpochPlan], *, batches: int | None = None
    ) -> None:
        """Start dense, but for locked tensors, whose zeros are masked from now on.

        Args:
            model: On any device; it must not move afterwards.
            plans: Each parameter is in one of them at most.
            batches: Batches in an epoch, which updates within an epoch need.

        Raises:
            UserError: Two plans name the same parameter.
        """
        parameters = dict(model.named_parameters(remove_duplicate=False))
        owners: dict[int, str] = {}
        for name in (name for plan in plans for name in plan.names):
            if (twin := owners.setdefault(id(parameters[name]), name)) != name or sum(
                plan.names.count(name) for plan in plans
            ) > 1:
                raise UserError(f"pruners: {twin} and {name} are pruned twice; name each once")
        self.plans, self._batches = tuple(plans), batches
        weights = [{name: parameters[name] for name in plan.names} for plan in plans]
        self._parts = [InPlaceMasks(part) for part in weights]
        self._importance = [
            {name: torch.zeros_like(w) for name, w in part.items()}
            if plan.kind == "sensitivity"
            else {}
            for plan, part in zip(plans, weights, strict=True)
        ]
        self._updates = [0] * len(plans)
        self._epoch = 0
        self._collected = False
        self._edited = False
        for plan, part in zip(self.plans, self._parts, strict=True):
            if plan.kind == "lock":
                part.renew({name: w.detach() != 0 for name, w in part.dense_values().items()})

    @property
    def masks(self) -> dict[str, Tensor]:
        """Parameter name -> bool mask, True = kept."""
        return {name: mask for part in self._parts for name, mask in part.masks.items()}

    def zeros(self, epoch: int, batch: int = 0) -> dict[str, int]:
        """Zeros planned for each parameter from this batch on; of locked ones those they have."""
        planned: dict[str, int] = {}
        for plan, part in zip(self.plans, self._parts, strict=True):
            planned |= self._counts(plan, part, plan.sparsity(epoch, batch, self._batches))
        return planned

    def epoch_begin(self, epoch: int) -> None:
        """Renew the masks that are due."""
        self._epoch = epoch
        self._renew_due(0)

    def batch_begin(self, batch: int) -> None:
        """Renew the masks that are due within an epoch, and zero what is pruned."""
        self._renew_due(batch)
        self.mask_weights()

    def before_step(self) -> None:
        """Collect importance, add the group lasso's gradient, spare pruned weights the rest.

        Doing it again before the next `after_step` does nothing.
        """
        if self._edited:
            return
        self._edited = True
        for plan, part, importance in zip(self.plans, self._parts, self._importance, strict=True):
            _collect(part.weights, importance)
            self._collected |= bool(importance)
            group_lasso_regularize(part.weights.values(), plan.alpha, pattern=plan.pattern)
            part.mask_gradients()

    def after_step(self) -> None:
        """Zero what is pruned, whatever the optimizer did."""
        self._edited = False
        self.mask_weights()

    def mask_weights(self) -> None:
        """Set pruned weights to zero."""
        for part in self._parts:
            part.mask_weights()

    def holds(self, optimizer: Optimizer) -> bool:
        """Whether the optimizer has one of the parameters."""
        mine = {id(w) for part in self._parts for w in part.weights.values()}
        return any(id(p) in mine for group in optimizer.param_groups for p in group["params"])

    def to_device(self) -> None:
        """Follow the weights to the device and memory layout they have now."""
        for part, importance in zip(self._parts, self._importance, strict=True):
            part.to_device()
            for name, score in importance.items():
                importance[name] = torch.empty_like(part.weights[name]).copy_(score)

    def finish(self) -> None:
        """Check that every target is reached.

        Raises:
            UserError: Training ended before the ramp did.
        """
        self.mask_weights()
        for plan, part in zip(self.plans, self._parts, strict=True):
            for name, wanted in self._counts(plan, part, plan.target).items():
                pruned = int((~part.masks[name]).sum())
                if plan.kind != "lock" and pruned != wanted:
                    raise UserError(
                        f"{name}: {pruned} of {wanted} zeros when training ended, in epoch "
                        f"{self._epoch}: its end_epoch is {plan.end_epoch}; train longer, lower "
                        "it, or call on_epoch_begin(epoch) in the training function"
                    )

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors only: masks, retained values, importance, and where the run is."""
        state: dict[str, Tensor] = {
            "epoch": torch.tensor(self._epoch),
            "collected": torch.tensor(self._collected),
            "updates": torch.tensor(self._updates),
        }
        for number, (part, scores) in enumerate(zip(self._parts, self._importance, strict=True)):
            state |= {f"{number}.part.{name}": value for name, value in part.state_dict().items()}
            state |= {f"{number}.score.{name}": value.clone() for name, value in scores.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict` of the same plans."""
        self._epoch, self._collected = int(state["epoch"]), bool(state["collected"])
        self._updates = [int(count) for count in state["updates"]]
        for number, (part, scores) in enumerate(zip(self._parts, self._importance, strict=True)):
            own = f"{number}.part."
            part.load_state_dict(
                {key.removeprefix(own): value for key, value in state.items() if own in key}
            )
            for name, score in scores.items():
                score.copy_(state[f"{number}.score.{name}"])

    def _counts(self, plan: EpochPlan, part: InPlaceMasks, ratio: float) -> dict[str, int]:
        if plan.kind == "lock":
            return {name: int((~mask).sum()) for name, mask in part.masks.items()}
        return {
            name: plan.pattern.feasible(tuple(w.shape), round(ratio * w.numel()))
            for name, w in part.weights.items()
        }

    def _renew_due(self, batch: int) -> None:
        for number, plan in enumerate(self.plans):
            if plan.kind == "lock" or self._epoch < plan.start_epoch:
                continue
            due = plan.updates_done(self._epoch, batch, self._batches)
            if due > self._updates[number]:
                self._updates[number] = due
                self._renew(number, plan.sparsity(self._epoch, batch, self._batches))

    def _renew(self, number: int, ratio: float) -> None:
        plan, part = self.plans[number], self._parts[number]
        counts, masks = self._counts(plan, part, ratio), {}
        for name, value in part.dense_values().items():
            # Before the first gradient there is nothing to go by but the magnitude.
            by_gradient = plan.kind == "sensitivity" and self._collected
            score = self._importance[number][name] if by_gradient else magnitude(value)
            try:
                masks[name] = plan.pattern.mask(score, counts[name])
            except ValueError as error:
                raise UserError(f"pruning {name} in epoch {self._epoch}: {error}") from error
        part.renew(masks)


@torch.no_grad()
def _collect(weights: Mapping[str, nn.Parameter], importance: Mapping[str, Tensor]) -> None:
    for name, score in importance.items():
        weight = weights[name]
        if weight.grad is not None:
            score += (weight * weight.grad).abs()
