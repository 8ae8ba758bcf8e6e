"""Interface of a sparse-training method, called by `ws_learner.pruning.sparsifier.Sparsifier`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, Self, runtime_checkable

from torch import Tensor, nn
from torch.optim import Optimizer

from ws_learner.config import WeightSparseConfig
from ws_learner.pruning.patterns.model_plan import PatternPlan

__all__ = [
    "CountsEpochs",
    "FromSettings",
    "HasEnd",
    "HasReadings",
    "KeepsZeros",
    "Method",
    "MethodConfig",
    "UsesGradients",
]


class Method(Protocol):
    """A sparse-training method bound to one model. Steps count completed optimizer steps."""

    @property
    def masks(self) -> Mapping[str, Tensor]:
        """Parameter name -> bool mask of the weight's shape, True = kept."""

    def attach(self, optimizer: Optimizer, step: int) -> None:
        """Get ready to follow `optimizer` from `step` on; buffers move to the weights' device."""

    def on_gradients(self) -> None:
        """Read the gradients; once per step that counts, before `before_step`."""

    def before_step(self) -> None:
        """Edit the gradients; doing it twice must be harmless, before a step or without one."""

    def after_step(self, optimizer: Optimizer, step: int) -> None:
        """Edit weights and optimizer state once `step` optimizer steps are done."""

    def planned_zeros(self, step: int) -> Mapping[str, int]:
        """Zeros that each layer should have after `step` steps."""

    def penalty(self) -> Tensor:
        """Scalar to add to the loss."""

    def finish(self, step: int) -> None:
        """Leave plain sparse weights in the model, with the exact number of zeros asked for."""

    def state_dict(self) -> dict[str, Tensor]:
        """State needed to resume, besides the model's and the optimizer's."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state_dict` gave."""


class MethodConfig(Protocol):
    """Settings of a method: a frozen dataclass."""

    def feasible(self, model: nn.Module, zeros: Mapping[str, int]) -> dict[str, int]:
        """Return the counts nearest to `zeros` that the method can make; fewer where it cannot.

        Args:
            model: Has the parameters.
            zeros: Parameter name -> number of zeros wanted.

        Raises:
            UserError: A layer does not fit, and the settings do not say what to do then.
        """

    def build(self, model: nn.Module, *, zeros: Mapping[str, int], total_steps: int) -> Method:
        """Set the method up.

        Args:
            model: Its parameters are changed in place, never replaced.
            zeros: Parameter name -> final number of zeros, all above 0.
            total_steps: Optimizer steps of the whole training.
        """


class FromSettings(Protocol):
    """The class that `MethodEntry.config` names: a `MethodConfig` made from settings."""

    @classmethod
    def from_settings(
        cls, config: WeightSparseConfig, *, steps_per_epoch: int, total_steps: int
    ) -> Self:
        """Take the method's settings from the learner's.

        Args:
            config: The learner's settings.
            steps_per_epoch: Optimizer steps of an epoch.
            total_steps: Optimizer steps of the whole training.

        Raises:
            UserError: A value is outside its range, or does not fit the training.
        """


@runtime_checkable
class CountsEpochs(Protocol):
    """A method that needs to know where epochs begin."""

    def epoch_begin(self, step: int) -> None:
        """An epoch begins after `step` optimizer steps."""


@runtime_checkable
class HasEnd(Protocol):
    """A method whose schedule ends before the training does."""

    def is_finished(self, step: int) -> bool:
        """Whether `finish(step)` would succeed."""


@runtime_checkable
class KeepsZeros(Protocol):
    """A method that can keep zeros which the network has before it begins."""

    @property
    def plan(self) -> PatternPlan:
        """The pattern of each weight; kept zeros are whole units of it."""

    kept: Mapping[str, Tensor]
    """Parameter name -> mask of the weights that stay zero, True = kept zero."""

    def keep_zeros(self, kept: Mapping[str, Tensor]) -> None:
        """Keep these weights at zero from the beginning, before the first step.

        They count towards the final number of zeros, which is no smaller.
        """


@runtime_checkable
class HasReadings(Protocol):
    """A method that logs its own numbers."""

    def readings(self) -> dict[str, float]:
        """Name -> value now."""


@runtime_checkable
class UsesGradients(Protocol):
    """What a method does with gradients; of one that does not say nothing is assumed."""

    @property
    def reads_gradients(self) -> bool:
        """Whether `on_gradients` needs the gradients of all weights, the pruned ones included."""

    @property
    def adds_terms(self) -> bool:
        """Whether `before_step` adds something to gradients, for which their scale matters."""

    @property
    def sets_gradients(self) -> bool:
        """Whether `on_gradients` sets those of parameters of its own, after each backward pass."""

    def new_gradients(self) -> None:
        """The gradients have been computed anew, perhaps in the same tensors."""
