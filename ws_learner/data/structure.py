"""What people's data sets and loaders yield, as a batch (inputs, targets)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ws_learner.core import UserError, count_of
from ws_learner.data.splits import Batch

__all__ = ["LABELS", "as_batch", "has_targets", "without_targets"]

LABELS = ("labels", "label", "targets", "target")
"""Keys under which a dict holds the targets."""


def as_batch(found: Any) -> Batch:
    """Split what a loader yields into inputs and targets.

    - (inputs, targets), where the inputs may be a tensor, a tuple or a dict;
    - (first, second, ..., targets): several inputs;
    - a dict whose targets have one of the keys of `LABELS`; the others are inputs;
    - a tensor, a tuple of one, or a dict without such a key: no targets, see `without_targets`.

    Raises:
        UserError: Inputs hold something that is no tensor, array, number or None, or targets are
            no tensor.
    """
    if isinstance(found, Mapping):
        keys = [key for key in LABELS if found.get(key) is not None]
        if len(keys) > 1:
            raise UserError(
                f"a batch holds {' and '.join(keys)}: targets are read from one of them; leave out "
                "the others"
            )
        inputs = _tensors({k: v for k, v in found.items() if k not in LABELS}, "")
        if not inputs:
            raise UserError(f"a batch holds {', '.join(map(str, found))} and no inputs")
        return inputs, _targets(found[keys[0]]) if keys else without_targets(count_of(inputs))
    if isinstance(found, list | tuple) and len(found) == 1:
        return as_batch(found[0])
    if isinstance(found, list | tuple) and found:
        *several, last = found
        inputs = _tensors(several[0] if len(several) == 1 else tuple(several), "")
        return inputs, _targets(last)
    inputs = _tensors(found, "")
    return inputs, without_targets(count_of(inputs))


def without_targets(count: int) -> Tensor:
    """(count, 0) stands for the targets of examples without any."""
    return torch.empty(count, 0)


def has_targets(targets: Tensor) -> bool:
    """Whether these are targets, and not what `without_targets` gives."""
    return targets.dim() != 2 or targets.shape[1] > 0


def _targets(found: Any) -> Tensor:
    if isinstance(found, np.ndarray | list | tuple):
        with suppress(TypeError, ValueError):
            found = torch.as_tensor(np.asarray(found))
    if not isinstance(found, Tensor):
        keys = f" of {', '.join(map(str, found))}" if isinstance(found, Mapping) else ""
        raise UserError(
            f"the targets of a batch are a {type(found).__name__}{keys}; give one tensor: "
            "put several side by side into one"
        )
    return found


def _tensors(value: Any, name: str) -> Any:
    """Inputs with arrays as tensors and mappings as dicts."""
    if isinstance(value, Tensor | int | float | None):
        return value
    if isinstance(value, np.ndarray) and value.dtype != object:
        return torch.from_numpy(value)
    if isinstance(value, Mapping):
        return {str(key): _tensors(part, f"{name}[{key!r}]") for key, part in value.items()}
    if isinstance(value, list | tuple) and not (value and isinstance(value[0], str)):
        return tuple(_tensors(part, f"{name}[{index}]") for index, part in enumerate(value))
    raise UserError(
        f"inputs{name} of a batch are {_said(value)}: a network takes tensors; leave "
        "such a column out, or turn it into numbers"
    )


def _said(value: Any) -> str:
    return "texts" if isinstance(value, list | tuple | str) else f"a {type(value).__name__}"
