"""One line for a network that fails in a forward pass."""

from __future__ import annotations

from ws_learner.core.errors import UserError
from ws_learner.core.model_calls import Inputs, tensors_of

__all__ = ["model_failure"]


def model_failure(error: Exception, inputs: Inputs) -> UserError:
    """The error to raise, from `error`, where a network fails on the first training examples.

    Args:
        error: What its `forward` raised.
        inputs: The inputs it was given.
    """
    deep = ""
    if isinstance(error, RecursionError):
        deep = "; for deeply nested modules call sys.setrecursionlimit(10_000) first"
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors_of(inputs))
    return UserError(
        f"the network fails on the first training examples, inputs of shape {shapes}: "
        f"{type(error).__name__}: {' '.join(str(error).split())}; it is given the inputs of a "
        f"batch without its targets{deep}"
    )
