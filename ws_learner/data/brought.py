"""One data set as people bring it: a `DataLoader`, a map-style data set or a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from ws_learner.core import UserError, say
from ws_learner.data.class_labels import class_labels
from ws_learner.data.dataset_split import Collate, DatasetSplit, seeded_example
from ws_learner.data.sampler_use import sampled_part
from ws_learner.data.stream import is_stream, take_stream

__all__ = ["Brought", "brought"]


@dataclass(frozen=True, kw_only=True)
class Brought:
    """A data set, and how its examples become batches.

    Attributes:
        dataset: Map-style.
        collate: Makes a batch of a list of examples; None stacks them.
        workers: Processes that read batches.
        weights: How often training draws each example relative to the others; None equally.
        batch_size: Examples of a batch as the loader had them; None without a loader.
    """

    dataset: Any
    collate: Collate | None = None
    workers: int = 0
    weights: Sequence[float] | None = None
    batch_size: int | None = None

    def part(self, positions: Sequence[int] | npt.NDArray[np.int64]) -> Brought:
        """The examples at these positions."""
        chosen = [int(position) for position in positions]
        weights = None if self.weights is None else [self.weights[place] for place in chosen]
        return replace(self, dataset=Subset(self.dataset, chosen), weights=weights)

    def split(self, *, pad_id: int | None = None) -> DatasetSplit:
        """As a split of a learner."""
        return DatasetSplit(
            self.dataset,
            workers=self.workers,
            pad_id=pad_id,
            collate_fn=self.collate,
            weights=self.weights,
        )

    def labels(self) -> npt.NDArray[np.int64] | None:
        """(N,) class numbers of all examples, where the data set holds them ready."""
        return class_labels(self.dataset)


def brought(data: Any, *, where: str, most: int | None = None) -> Brought:
    """Recognise a data set.

    Args:
        data: The data set, or a loader of it.
        where: What it is, for messages.
        most: Examples of a stream to keep, see `take_stream`.

    Raises:
        UserError: It is none that is known, is empty, or its loader has a way of its own to choose
            examples or to make batches.
    """
    if isinstance(data, DataLoader):
        return _of_loader(data, where=where, most=most)
    if is_stream(data):
        return Brought(dataset=take_stream(data, most=most, where=where))
    _check_map_style(data, where=where)
    if len(data) == 0:
        raise UserError(f"{where}: has no examples")
    _check_first(data, where=where)
    return Brought(dataset=data)


def _of_loader(loader: DataLoader[Any], *, where: str, most: int | None) -> Brought:
    batch_size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None)
    if loader.batch_size is None and loader.batch_sampler is None:
        raise UserError(
            f"{where}: a DataLoader of batch_size None does not say how examples become batches; "
            "give it a batch_size and a data set of single examples"
        )
    own = None if loader.collate_fn is default_collate else loader.collate_fn
    known: dict[str, Any] = {
        "collate": own,
        "workers": loader.num_workers,
        "batch_size": batch_size if isinstance(batch_size, int) else None,
    }
    if is_stream(loader.dataset):
        stream: Any = loader.dataset
        return Brought(dataset=take_stream(stream, most=most, where=where), **known)
    inner = brought(loader.dataset, where=where)
    positions, weights = sampled_part(loader, where=where)
    found = Brought(dataset=inner.dataset, weights=weights, **known)
    if getattr(loader, "worker_init_fn", None) is not None:
        say(f"{where}: its worker_init_fn is not called; every example has its own random numbers")
    return found if positions is None else found.part(positions)


def _check_map_style(data: Any, *, where: str) -> None:
    remedy = (
        "give a DataLoader, a data set with __len__ and __getitem__, an IterableDataset, "
        "DataSplits, or a tuple (train, validation) or (train, validation, test) of them"
    )
    if isinstance(data, Tensor | np.ndarray):
        raise UserError(
            f"{where}: one {'tensor' if isinstance(data, Tensor) else 'array'} of shape "
            f"{tuple(data.shape)} is no data set of (input, target) pairs; give "
            "torch.utils.data.TensorDataset(inputs, targets)"
        )
    if isinstance(data, Mapping):
        names = ", ".join(map(str, list(data)[:4]))
        raise UserError(
            f"{where}: a {type(data).__name__} with {names}; {remedy}, such as "
            "(data['train'], data['validation'])"
        )
    if isinstance(data, list) and data and isinstance(data[0], Dataset | DataLoader):
        raise UserError(
            f"{where}: a list of {len(data)} data sets or loaders; give a tuple "
            "(train, validation) or (train, validation, test) of them, or one "
            "torch.utils.data.ConcatDataset"
        )
    if type(data).__module__.partition(".")[0] == "pandas":
        raise UserError(
            f"{where}: a {type(data).__name__} does not say which columns are inputs; give "
            "torch.utils.data.TensorDataset(inputs, targets), with tensors made of its columns, "
            "such as torch.tensor(frame[names].to_numpy())"
        )
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")) or isinstance(data, str):
        raise UserError(f"{where}: a {type(data).__name__} is not known as data; {remedy}")


def _check_first(data: Any, *, where: str) -> None:
    """Refuse what has no examples under their numbers, such as a table of columns."""
    try:
        with seeded_example(0):
            data[0]
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{where}: reading example 0 of the {type(data).__name__} fails, "
            f"{type(error).__name__}: {' '.join(str(error).split())}; a data set gives its "
            "examples under the numbers 0 to len - 1"
        ) from error
