"""Pruning driven by epochs and hooks, as in LPOT, for any training loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ws_learner.compat.lpot.epoch_plan import EpochPlan
from ws_learner.core import UserError
from ws_learner.pruning import (
    ChannelPattern,
    Criterion,
    HeadPattern,
    Magnitude,
    OptimizerSteps,
    Pattern,
    PatternPlan,
    Sensitivity,
    StoredMasks,
    UnfeltLayers,
    Unstructured,
    add_group_lasso,
    build_criterion,
    build_pattern_plan,
    refuse_replaced,
)

__all__ = ["EpochPlan", "EpochPruner"]


class EpochPruner:
    """Applies pruning plans to a model that another training loop trains.

    Parameters are changed in place and never replaced. A pruned weight keeps the value it had and
    may come back at a later update; until then gradient, momentum and decay do not change it.
    """

    def __init__(
        self, model: nn.Module, plans: Sequence[EpochPlan], *, batches: int | None = None
    ) -> None:
        """Start dense; only the zeros of locked tensors are masked from now on.

        Args:
            model: On any device, in any precision; it may move between steps.
            plans: Each parameter is in one of them at most.
            batches: Batches in an epoch, which updates within an epoch need.

        Raises:
            UserError: Two plans name the same parameter, or `mha` something that is no head.
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
        self._parts = [StoredMasks(part) for part in weights]
        self._units = [build_pattern_plan(model, p.names, pattern=_pattern(p)) for p in plans]
        self._criteria = [_criterion(p, u) for p, u in zip(plans, self._units, strict=True)]
        self._updates = [0] * len(plans)
        self._model, self._unfelt = model, UnfeltLayers()
        self._optimizers: list[Optimizer] = []
        self._steps = OptimizerSteps()
        self._masked_early = False
        self._epoch = 0
        self._collected = self._begun = False
        self._find_locked()

    @property
    def masks(self) -> dict[str, Tensor]:
        """Parameter name -> bool mask, True = kept."""
        return {name: mask for part in self._parts for name, mask in part.masks.items()}

    def zeros(self, epoch: int, batch: int = 0) -> dict[str, int]:
        """Zeros planned for each parameter from this batch on; of locked ones those they have."""
        planned: dict[str, int] = {}
        for number, plan in enumerate(self.plans):
            planned |= self._counts(number, plan.sparsity(epoch, batch, self._batches))
        return planned

    def epoch_begin(self, epoch: int) -> None:
        """Renew the masks that are due."""
        self._epoch = epoch
        self._begin()
        self._take_over_writes()
        self._renew_due(0)

    def batch_begin(self, batch: int) -> None:
        """Renew the masks that are due within an epoch, and zero what is pruned."""
        self.follow_weights()
        self._take_over_writes()
        self._renew_due(batch)
        self.mask_weights()

    def _find_locked(self) -> None:
        """Lock the zeros there are now: again when training begins, on weights loaded since."""
        for number, plan in enumerate(self.plans):
            if plan.kind == "lock" and not self._begun:
                part = self._parts[number] = StoredMasks(self._parts[number].weights)
                part.update_masks({name: w.detach() != 0 for name, w in part.weights.items()})

    def _begin(self) -> None:
        """Training begins, unless it has."""
        self._find_locked()
        self._begun = True
        self.follow_weights()

    def follow(self, optimizer: Optimizer) -> None:
        """Clear the state of `optimizer` for each weight when it is pruned."""
        if self.holds(optimizer) and all(known is not optimizer for known in self._optimizers):
            self._optimizers.append(optimizer)

    def step_begins(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """`before_step`, as a hook of the optimizer: under a GradScaler and with a closure, too."""
        self.follow(optimizer)
        return self._steps.begin(
            optimizer, args, kwargs, lambda call: self._edit(optimizer, learns=call <= 1)
        )

    def _edit(self, optimizer: Optimizer, *, learns: bool) -> None:
        if not self._masked_early:
            self.before_step(optimizer, learns=learns)

    def mask_gradients(self) -> None:
        """`before_step` now rather than when the optimizer steps; for gradient clipping."""
        if not self._masked_early:
            self.before_step()
        self._masked_early = True

    def step_ends(self, optimizer: Optimizer, *_: Any) -> None:
        """`after_step`, as a hook of the optimizer."""
        self._steps.end(optimizer)
        self._masked_early = False
        self.after_step()

    def before_step(self, optimizer: Optimizer | None = None, *, learns: bool = True) -> None:
        """Collect importance, add the group lasso's gradient, spare pruned weights the rest.

        Once for each step, right before it; an optimizer is followed, and what it does not hold
        is left to the one that does.
        """
        if optimizer is not None:
            self.follow(optimizer)
        self._begin()
        if learns:
            self._take_over_writes()
        parts = zip(self.plans, self._parts, self._units, self._criteria, strict=True)
        for plan, part, units, criterion in parts:
            weights = _held(part.weights, optimizer)
            if learns and weights:
                criterion.observe(weights)
                self._collected |= criterion.needs_gradients
            for name, weight in weights.items():
                add_group_lasso(weight, plan.alpha, pattern=units.patterns[name])
            part.mask_gradients(weights.values())

    def after_step(self) -> None:
        """Set pruned weights to zero after the optimizer step."""
        for part in self._parts:
            part.mask_weights()

    def mask_weights(self) -> None:
        """Set pruned weights to zero between steps, whoever wrote to them."""
        self._take_over_writes()
        self.after_step()

    def _take_over_writes(self) -> None:
        for part in self._parts:
            part.take_over_writes()

    def holds(self, optimizer: Optimizer) -> bool:
        """Whether the optimizer has one of the parameters."""
        return any(_held(part.weights, optimizer) for part in self._parts)

    def follow_weights(self) -> None:
        """Move the saved tensors to the weights' device, if it has changed."""
        for part in self._parts:
            part.follow_weights()

    def finish(self) -> None:
        """Check that every target is reached.

        Raises:
            UserError: Training ended before the ramp did, or the model has another parameter than
                the one that was pruned.
        """
        self.mask_weights()
        for part in self._parts:
            refuse_replaced(self._model, part.weights)
            part.report_writes()
        for number, (plan, part) in enumerate(zip(self.plans, self._parts, strict=True)):
            for name, wanted in self._counts(number, plan.target).items():
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
        for number, parts in enumerate(self._stateful()):
            for kind, part in parts.items():
                state |= {f"{number}.{kind}.{name}": v for name, v in part.state_dict().items()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a `state_dict` of the same plans."""
        self._begun = True
        self._epoch, self._collected = int(state["epoch"]), bool(state["collected"])
        self._updates = [int(count) for count in state["updates"]]
        for number, parts in enumerate(self._stateful()):
            for kind, part in parts.items():
                own = f"{number}.{kind}."
                part.load_state_dict(
                    {k.removeprefix(own): v for k, v in state.items() if k.startswith(own)}
                )

    def _stateful(self) -> list[dict[str, StoredMasks | Criterion]]:
        """Masks and criterion of each plan."""
        both = zip(self._parts, self._criteria, strict=True)
        return [{"part": part, "score": criterion} for part, criterion in both]

    def _counts(self, number: int, ratio: float) -> dict[str, int]:
        plan, part, units = self.plans[number], self._parts[number], self._units[number]
        if plan.kind == "lock":
            return {name: int((~mask).sum()) for name, mask in part.masks.items()}
        wanted = {name: round(ratio * weight.numel()) for name, weight in part.weights.items()}
        counts = {
            name: units.patterns[name].feasible(units.shapes[name], zeros)
            for name, zeros in wanted.items()
        }
        for team in units.groups:  # the layers of an attention lose the same heads
            counts |= units.snap({name: wanted[name] for name in team})
        return counts

    def _renew_due(self, batch: int) -> None:
        for number, plan in enumerate(self.plans):
            if plan.kind == "lock" or self._epoch < plan.start_epoch:
                continue
            due = plan.updates_done(self._epoch, batch, self._batches)
            if due > self._updates[number]:
                self._updates[number] = due
                self._renew(number, plan.sparsity(self._epoch, batch, self._batches))

    def _renew(self, number: int, ratio: float) -> None:
        part = self._parts[number]
        # Before the first gradient only the magnitude is known.
        criterion = self._criteria[number] if self._collected else Magnitude()
        values, units = part.dense_values(), self._units[number]
        scores: dict[str, Tensor] = {}
        for team in units.teams:
            own = {name: values[name] for name in team}
            scores |= self._unfelt.ranked(criterion, criterion.scores(own), own)
        try:
            part.update_masks(units.masks(scores, self._counts(number, ratio)))
        except ValueError as error:
            raise UserError(f"pruning in epoch {self._epoch}: {error}") from error
        for optimizer in self._optimizers:
            part.mask_state(optimizer)


def _held(
    weights: Mapping[str, nn.Parameter], optimizer: Optimizer | None
) -> dict[str, nn.Parameter]:
    """Those of the weights that an optimizer has; all without one."""
    if optimizer is None:
        return dict(weights)
    own = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return {name: weight for name, weight in weights.items() if id(weight) in own}


def _criterion(plan: EpochPlan, units: PatternPlan) -> Criterion:
    """The criterion of a plan; unused by a locked plan."""
    if plan.kind == "lock":
        return Magnitude()
    if plan.kind != "sensitivity":
        return build_criterion(plan.kind)
    whole = {
        name: pattern if isinstance(pattern, ChannelPattern | HeadPattern) else Unstructured()
        for name, pattern in units.patterns.items()
    }
    return Sensitivity(whole)


def _pattern(plan: EpochPlan) -> Pattern:
    """A locked plan has the pattern it finds."""
    return Unstructured() if plan.kind == "lock" else plan.pattern
