"""Pattern lock: existing zeros are kept during fine-tuning or distillation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ws_learner.config import WeightSparseConfig
from ws_learner.core import UserError, warn
from ws_learner.pruning.methods.stored_masks import StoredMasks
from ws_learner.pruning.patterns.mask import count_zeros

__all__ = ["PatternLock", "PatternLockConfig", "found_zeros", "warn_of_unlocked"]


def found_zeros(model: nn.Module, names: Iterable[str] | None = None) -> dict[str, int]:
    """Zeros of each parameter, by name.

    Args:
        model: The sparse network.
        names: Which parameters; by default all of two or more dimensions that have a zero.
    """
    if names is not None:
        return {name: count_zeros(model.get_parameter(name)) for name in names}
    counts = {n: count_zeros(p) for n, p in model.named_parameters() if p.ndim > 1}
    return {name: count for name, count in counts.items() if count}


def warn_of_unlocked(model: nn.Module, locked: Iterable[str]) -> None:
    """Print a line if parameters that are not locked have zeros, which training would fill.

    Args:
        model: The sparse network.
        locked: Names of the parameters whose zeros are kept.
    """
    known = dict(model.named_parameters(remove_duplicate=False))
    kept = {id(known[name]) for name in locked}
    lost = {n: count for n, count in found_zeros(model).items() if id(known[n]) not in kept}
    if lost:
        first = ", ".join(f"{name} ({count})" for name, count in list(lost.items())[:3])
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        warn(
            f"warning: pattern_lock: zeros of {first}{more} are not kept and will be trained, "
            "because these layers are not named or are excluded; name them to keep their zeros"
        )


@dataclass(frozen=True)
class PatternLockConfig:
    """Pattern lock without settings: the existing zeros are the pattern; no schedule."""

    @classmethod
    def from_settings(
        cls, config: WeightSparseConfig, *, steps_per_epoch: int, total_steps: int
    ) -> Self:
        """See `FromSettings`."""
        return cls()

    def feasible(self, model: nn.Module, zeros: Mapping[str, int]) -> dict[str, int]:
        """See `MethodConfig.feasible`: the zeros there are.

        Raises:
            UserError: Others were asked for.
        """
        found = found_zeros(model, zeros)
        for name, count in zeros.items():
            if count != found[name]:
                raise UserError(
                    f"pattern_lock keeps the zeros a network has: {name} has {found[name]}, not "
                    f"{count}; start from a sparse checkpoint and give `found_zeros(model)`"
                )
        return found

    def build(self, model: nn.Module, *, zeros: Mapping[str, int], total_steps: int) -> PatternLock:
        """Set the method up; see `MethodConfig.build`."""
        self.feasible(model, zeros)
        parameters = dict(model.named_parameters(remove_duplicate=False))
        return PatternLock({name: parameters[name] for name in zeros})


class PatternLock:
    """Weights that are zero at the beginning stay zero."""

    def __init__(self, weights: Mapping[str, nn.Parameter]) -> None:
        """Take the masks from the weights as they are now, and again when they are attached."""
        self._zeros = {name: count_zeros(weight) for name, weight in weights.items()}
        self._begun = False
        self._in_place = self._found(weights)

    @property
    def masks(self) -> Mapping[str, Tensor]:
        """See `Method`."""
        return self._in_place.masks

    def planned_zeros(self, step: int) -> dict[str, int]:
        """See `Method`: always the same."""
        return dict(self._zeros)

    def attach(self, optimizer: Optimizer, step: int) -> None:
        """See `Method`: momentum that an optimizer brings along for a pruned weight goes too.

        Raises:
            UserError: Weights loaded since the lock was made have another number of zeros.
        """
        if not self._begun:
            self._in_place = self._found(self._in_place.weights)
        self._begun = True
        self._in_place.to_device()
        self._in_place.mask_state(optimizer)

    def _found(self, weights: Mapping[str, nn.Parameter]) -> StoredMasks:
        """Masks of the zeros there are now, before training."""
        for name, weight in weights.items():
            if (now := count_zeros(weight)) != self._zeros[name]:
                raise UserError(
                    f"pattern_lock: {name} has {now} zeros now, {self._zeros[name]} when the lock "
                    "was made: load the weights first, then make it with `found_zeros(model)`"
                )
        found = StoredMasks(weights)
        found.update_masks({name: w.detach() != 0 for name, w in weights.items()})
        return found

    reads_gradients = False
    adds_terms = False
    sets_gradients = False

    def new_gradients(self) -> None:
        """See `UsesGradients`: there are no terms."""

    def on_gradients(self) -> None:
        """See `Method`: only what was written to the zeros is noticed."""
        self._in_place.take_over_writes()

    def before_step(self) -> None:
        """See `Method`."""
        self._in_place.mask_gradients()

    def after_step(self, optimizer: Optimizer, step: int) -> None:
        """See `Method`."""
        self._in_place.mask_weights()

    def penalty(self) -> Tensor:
        """See `Method`: zero."""
        weights = self._in_place.weights.values()
        return torch.zeros((), device=next((w.device for w in weights), None))

    def is_finished(self, step: int) -> bool:
        """See `HasEnd`: always."""
        return True

    def finish(self, step: int) -> None:
        """See `Method`."""
        self._in_place.make_zeros(stacklevel=3)

    def state_dict(self) -> dict[str, Tensor]:
        """See `Method`."""
        return self._in_place.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """See `Method`."""
        self._in_place.load_state_dict(state)
        self._begun = True
