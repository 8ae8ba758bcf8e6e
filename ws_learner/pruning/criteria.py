"""Criteria: how much a weight matters. The smallest scores are pruned.

Those that use gradients look at them once per optimizer step. A weight that is pruned is zero, so
that snip, snip_momentum and sensitivity score it 0 or ever less, and do not bring it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from ws_learner.config import CRITERIA, CriterionName, load_object
from ws_learner.core import UserError, check_choice
from ws_learner.pruning.patterns.pattern import NM, Pattern, Unstructured

__all__ = [
    "Criterion",
    "Gradient",
    "Magnitude",
    "Sensitivity",
    "Snip",
    "SnipMomentum",
    "build_criterion",
    "magnitude",
]


def magnitude(weight: Tensor) -> Tensor:
    """Score every weight by its absolute value (Han et al. 2015, section 3)."""
    return weight.detach().abs()


class Criterion(Protocol):
    """Scores the weights of several layers, by name."""

    needs_gradients: bool

    def observe(self, weights: Mapping[str, nn.Parameter]) -> None:
        """Read the gradients, once per optimizer step and before it."""

    def scores(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Score each tensor of `values` (a pruned weight has its last value there), same shape."""

    def state_dict(self) -> dict[str, Tensor]:
        """The accumulated importance, by name."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state_dict` gave."""


class Magnitude:
    """|w|."""

    needs_gradients = False

    def observe(self, weights: Mapping[str, nn.Parameter]) -> None:
        """See `Criterion`: nothing to see."""

    def scores(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Criterion`."""
        return {name: magnitude(value) for name, value in values.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """See `Criterion`: nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """See `Criterion`."""
        if state:
            raise UserError(f"the saved state belongs to another criterion: {min(state)}")


class _Observed:
    """A criterion that remembers one tensor per weight."""

    needs_gradients = True

    def __init__(self) -> None:
        self._seen: dict[str, Tensor] = {}

    @torch.no_grad()
    def observe(self, weights: Mapping[str, nn.Parameter]) -> None:
        """See `Criterion`; a weight without a gradient is left as it is."""
        for name, weight in weights.items():
            if weight.grad is not None:
                before = self._seen.get(name)
                before = None if before is None else before.to(weight.device)
                self._seen[name] = self._update(name, before, weight, weight.grad)

    def scores(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Criterion`; 0 where no gradient has been seen."""
        return {
            name: self._score(name, self._seen[name].to(value.device), value)
            if name in self._seen
            else torch.zeros_like(value)
            for name, value in values.items()
        }

    def state_dict(self) -> dict[str, Tensor]:
        """See `Criterion`."""
        return {name: tensor.clone() for name, tensor in self._seen.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """See `Criterion`."""
        self._seen = {name: tensor.clone() for name, tensor in state.items()}

    def _update(self, name: str, before: Tensor | None, weight: Tensor, grad: Tensor) -> Tensor:
        raise NotImplementedError

    def _score(self, name: str, seen: Tensor, value: Tensor) -> Tensor:
        return seen


class Gradient(_Observed):
    """|g| of the last step."""

    def _update(self, name: str, before: Tensor | None, weight: Tensor, grad: Tensor) -> Tensor:
        return grad.abs()


class Snip(_Observed):
    """|w g| of the last step (Lee et al., ICLR 2019, equation 6)."""

    def _update(self, name: str, before: Tensor | None, weight: Tensor, grad: Tensor) -> Tensor:
        return (weight * grad).abs_()


class SnipMomentum(_Observed):
    """S <- momentum S + |w g| at every step, as Neural Compressor has it.

    Args:
        momentum: In [0, 1).
    """

    def __init__(self, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum

    def _update(self, name: str, before: Tensor | None, weight: Tensor, grad: Tensor) -> Tensor:
        now = (weight * grad).abs_()
        return now if before is None else before.mul_(self.momentum).add_(now)


class Sensitivity(_Observed):
    """How much the loss would change if a unit were scaled: S <- memory S + |sum of its w g|.

    For a head of an attention's output projection this is the gradient of a factor on the head's
    output (Michel et al., NeurIPS 2019, section 4.1); for single weights it is |w g| added up.

    Args:
        patterns: Which weights make a unit, by parameter name.
        normalize: Divide a layer's importances by their Euclidean norm, so that layers compare.
        of: What is added up over a unit: w g, or the gradient alone.
        memory: In [0, 1]: 1 adds up all steps, 0 knows the last alone.
    """

    def __init__(
        self,
        patterns: Mapping[str, Pattern],
        *,
        normalize: bool = True,
        of: Literal["product", "gradient"] = "product",
        memory: float = 1.0,
    ) -> None:
        super().__init__()
        check_choice(of, Literal["product", "gradient"], name="of")
        self._of, self._memory = of, memory
        # N:M groups are unknown before scoring, so each weight is its own unit.
        self._patterns = {
            name: Unstructured() if isinstance(pattern, NM) else pattern
            for name, pattern in patterns.items()
        }
        self._normalize = normalize

    def _update(self, name: str, before: Tensor | None, weight: Tensor, grad: Tensor) -> Tensor:
        felt = weight * grad if self._of == "product" else grad
        now = self._patterns[name].pooled(felt, "sum").abs()
        return now if before is None else before.mul_(self._memory).add_(now)

    def _score(self, name: str, seen: Tensor, value: Tensor) -> Tensor:
        if self._normalize:
            seen = seen / (torch.linalg.vector_norm(seen) + 1e-20)
        return self._patterns[name].spread(seen, tuple(value.shape))


def build_criterion(name: CriterionName) -> Criterion:
    """The criterion of a name.

    Raises:
        UserError: There is none.
    """
    made: Criterion = load_object(CRITERIA.find(name).build)()
    return made
