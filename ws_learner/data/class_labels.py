"""Class numbers of a data set, told without reading its examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Subset, TensorDataset

from ws_learner.core import UserError, say

__all__ = ["class_labels", "labels_to_stratify", "say_missing_classes"]

Labels = npt.NDArray[np.int64]


def class_labels(dataset: Any) -> Labels | None:
    """(N,) class numbers from 0 on; None if the targets are none, or not in memory.

    Looked at are a list of pairs, a `TensorDataset`, the attributes `targets` and `labels`, and
    a `Subset` of these.
    """
    if type(dataset) is Subset:
        inner = class_labels(dataset.dataset)
        return None if inner is None else inner[np.asarray(dataset.indices, dtype=np.int64)]
    if type(dataset) is TensorDataset:
        return _as_labels(dataset.tensors[-1], len(dataset))
    if isinstance(dataset, list | tuple):
        pairs = [pair for pair in dataset if isinstance(pair, list | tuple) and len(pair) == 2]
        return _as_labels([target for _, target in pairs], len(dataset))
    for name in ("targets", "labels"):
        if (found := getattr(dataset, name, None)) is not None:
            return _as_labels(found, len(dataset))
    return None


def _as_labels(found: Any, count: int) -> Labels | None:
    if isinstance(found, Sequence):
        if isinstance(found, str) or not all(_is_whole(value) for value in found):
            return None
        found = torch.tensor([int(value) for value in found])
    if not isinstance(found, Tensor | np.ndarray):
        return None
    values = torch.as_tensor(found)
    if values.shape != (count,) or values.is_floating_point() or values.is_complex() or not count:
        return None
    return values.long().numpy() if int(values.min()) >= 0 else None


def _is_whole(value: Any) -> bool:
    if isinstance(value, Tensor | np.ndarray | np.generic):
        value = torch.as_tensor(value)
        return value.dim() == 0 and not value.is_floating_point() and not value.is_complex()
    return isinstance(value, int)


def labels_to_stratify(dataset: Any) -> Labels:
    """The class numbers, for a split by them.

    Raises:
        UserError: They are not known.
    """
    labels = class_labels(dataset)
    if labels is None:
        raise UserError(
            "`stratify` True: the class of each example is not known without reading them all; "
            "give the data set its class numbers, from 0 on, as an attribute `targets`"
        )
    return labels


def say_missing_classes(labels: Labels, parts: dict[str, Sequence[int]]) -> None:
    """Say which classes a random split has left out of a part, if any."""
    every = set(np.unique(labels).tolist())
    for name, chosen in parts.items():
        missing = sorted(every - set(np.unique(labels[np.asarray(chosen)]).tolist()))
        if missing and len(every) <= len(chosen):
            say(
                f"split_dataset: the {name} split has no example of class {missing[0]}"
                f"{f' and {len(missing) - 1} others' if len(missing) > 1 else ''}; give "
                "`stratify` True for all classes in proportion"
            )
