"""Kept zeros of a method while a saved state is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor

from ws_learner.pruning.methods.method import KeepsZeros, Method
from ws_learner.pruning.methods.tensor_state import take_part

__all__ = ["kept_of_state"]


@contextmanager
def kept_of_state(method: Method, state: Mapping[str, Tensor]) -> Iterator[None]:
    """The plan as the saved training made it, whatever zeros the network has by now.

    If the state is refused inside, the method keeps what it kept before.
    """
    if not isinstance(method, KeepsZeros):
        yield
        return
    before, method.kept = method.kept, take_part(state, "kept")[0]
    try:
        yield
    except Exception:
        method.kept = before
        raise
