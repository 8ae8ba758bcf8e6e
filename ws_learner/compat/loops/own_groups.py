"""Groups that a method adds to an optimizer, kept from a loop's schedulers and checkpoints."""

from __future__ import annotations

import inspect
from typing import Any

from torch.optim import Optimizer

__all__ = ["OwnGroups"]


class OwnGroups:
    """Steps the groups that are added to an optimizer by an optimizer of their own.

    Movement pruning trains its scores in a group that it adds when it is attached. A loop has made
    its learning-rate scheduler by then, which refuses an optimizer that has grown, and Hugging
    Face's loads the optimizer's state before. So the group gets an optimizer of the same class and
    settings; the numbers are the same.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        """Watch `optimizer`; the hook comes before those that are registered later."""
        self._optimizer, self._before = optimizer, len(optimizer.param_groups)
        self._own: Optimizer | None = None
        self._handle = optimizer.register_step_post_hook(self._step)

    def take(self) -> None:
        """Move the groups added since to the own optimizer."""
        added = self._optimizer.param_groups[self._before :]
        if not added:
            self._handle.remove()
            return
        del self._optimizer.param_groups[self._before :]
        kind = type(self._optimizer)
        known = set(inspect.signature(kind).parameters) - {"params"}
        settings = {name: value for name, value in added[0].items() if name in known}
        self._own = kind(added, **settings)

    def remove(self) -> None:
        """Stop watching."""
        self._handle.remove()

    def state_dict(self) -> dict[str, Any]:
        """State of the own optimizer; empty if there is none."""
        return {} if self._own is None else self._own.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        if self._own is not None and state:
            self._own.load_state_dict(state)

    def _step(self, optimizer: Optimizer, *_: Any) -> None:
        """Make the step, if there are new gradients: a scaler may leave one out."""
        if self._own is not None:
            self._own.step()
            self._own.zero_grad()
