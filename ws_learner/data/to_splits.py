"""Data as people bring them, as the four splits of a learner."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import combinations
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from torch.utils.data import DataLoader, Subset, TensorDataset

from ws_learner.core import OutputKind, UserError, as_whole, say, value_digest
from ws_learner.data.brought import Brought, brought
from ws_learner.data.reading import reading_order
from ws_learner.data.splits import DataSplits, UntestedSplits
from ws_learner.data.stratify import stratified_parts
from ws_learner.data.user_dataset import examples_digest, input_shape

__all__ = ["as_splits", "loader_batch_size"]

Indices = npt.NDArray[np.int64]

_HELD_OUT = 0.2
_PARTS = ("train", "search", "select", "test")
_NAMES = {2: ("train", "validation"), 3: ("train", "validation", "test")}


def as_splits(
    data: Any,
    *,
    name: str = "data",
    num_classes: int | None = None,
    seed: int = 0,
    max_examples: int | None = None,
    outputs: OutputKind | None = None,
    pad_id: int | None = None,
) -> DataSplits:
    """Make the four splits of a learner from data as they are.

    | `data` | train | search, select | test |
    |---|---|---|---|
    | one data set | 80 % | 10 % each | none: measured on both 10 % |
    | (train, validation) | train | half of validation each | none: measured on validation |
    | (train, validation, test) | train | half of validation each | test |
    | `DataSplits` | as they are | as they are | as it is |

    Without a test set the networks are measured on examples that helped to choose the ratios:
    `DataSplits.measured_on` is then `validation`, and no report speaks of a test. Examples are
    drawn at random by the seed, with the classes in proportion where the data set holds its labels
    ready (a `TensorDataset`, a list of pairs, an attribute `targets` or `labels`).

    A data set is a map-style one (`__len__`, `__getitem__`), a `DataLoader` or an
    `IterableDataset`. Of a `DataLoader`, the `collate_fn`, the number of workers, the part that a
    `SubsetRandomSampler` reads and the weights of a `WeightedRandomSampler` are kept; the order is
    drawn anew for every epoch, so that runs can be resumed. An `IterableDataset` is read once, into
    memory.

    Args:
        data: As above.
        name: Name of the data, for reports.
        num_classes: Number of classes or labels; None: one more than the largest label that is
            ready or among the first 512 targets, 1 if these are no whole numbers.
        seed: Seed of the random parts.
        max_examples: Examples of an `IterableDataset` to keep, the first ones. None keeps all, up
            to 50,000; a stream that has not ended by then is refused.
        outputs: What the outputs of a network on these data mean; None tells it from shapes and
            targets.
        pad_id: Number that pads sentences, see `DataSplits.pad_id`.

    Raises:
        UserError: The data are of no kind above, too few, share examples, or a sampler or a
            stream cannot be followed.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> images, labels = torch.zeros(40, 3, 4, 4), torch.arange(40) % 2
        >>> splits = as_splits(TensorDataset(images, labels))
        >>> len(splits.train), len(splits.search), len(splits.test), splits.measured_on
        (32, 4, 8, 'validation')
    """
    if isinstance(data, DataSplits) or all(hasattr(data, part) for part in _PARTS):
        return cast(DataSplits, data)
    seed = as_whole(seed, name="seed")
    if max_examples is not None:
        max_examples = as_whole(max_examples, name="max_examples", least=1)
    if isinstance(data, tuple):
        parts = _given(data, most=max_examples)
    else:
        parts = _held_out(brought(data, where="`data`", most=max_examples), seed=seed)
    if len(parts["validation"].dataset) < 2:
        raise UserError(
            "`data`: the validation set has one example, and needs two: one to score rollouts, "
            "one to choose among the best; give more"
        )
    search, select = _divided(parts["validation"], (0.5,), seed=seed)
    measured = parts.get("test", parts["validation"])
    train = parts["train"]
    kind = DataSplits if "test" in parts else UntestedSplits
    return kind(
        name=name,
        digest=_digest(parts, f"{seed} {pad_id}"),
        num_classes=_num_classes(train) if num_classes is None else num_classes,
        input_shape=input_shape(train.dataset, train.split(pad_id=pad_id)),
        train=train.split(pad_id=pad_id),
        search=search.split(pad_id=pad_id),
        select=select.split(pad_id=pad_id),
        test=measured.split(pad_id=pad_id),
        outputs=outputs,
        pad_id=pad_id,
    )


def _given(data: tuple[Any, ...], *, most: int | None) -> dict[str, Brought]:
    """Sets of the user's own."""
    if len(data) not in _NAMES:
        raise UserError(
            f"`data`: a tuple of {len(data)} is not known; give (train, validation) or "
            "(train, validation, test)"
        )
    names = _NAMES[len(data)]
    parts = {
        name: brought(part, where=f"`data`, {name}", most=most)
        for name, part in zip(names, data, strict=True)
    }
    for one, other in combinations(names, 2):
        _refuse_shared(parts[one].dataset, parts[other].dataset, names=(one, other))
    return parts


def _held_out(whole: Brought, *, seed: int) -> dict[str, Brought]:
    count = len(whole.dataset)
    if count < 10:
        raise UserError(
            f"`data`: has {count} examples, and needs 10 to hold out a fifth; give more"
        )
    validation, train = _divided(whole, (_HELD_OUT,), seed=seed)
    say(
        f"`data`: {len(validation.dataset):,} of the {count:,} examples are held out as validation "
        "set; if the network was trained on them, its score there is too good. Give (train, "
        "validation) or (train, validation, test) to choose them"
    )
    return {"train": train, "validation": validation}


def _divided(whole: Brought, shares: Sequence[float], *, seed: int) -> list[Brought]:
    """Random parts of these shares, and the rest; classes in proportion where known."""
    count = len(whole.dataset)
    sizes = [max(1, round(share * count)) for share in shares]
    labels = whole.labels()
    if labels is not None and np.bincount(labels)[np.unique(labels)].min() > len(sizes):
        parts = stratified_parts(labels, sizes=sizes, seed=seed)
        if all(len(part) for part in parts):
            return [whole.part(part) for part in parts]
    order = reading_order(count, seed=seed, augment=False)
    return [whole.part(part) for part in np.split(order, np.cumsum(sizes))]


def _refuse_shared(one: Any, other: Any, *, names: tuple[str, str]) -> None:
    """Refuse two sets that are, or are seen to be, of the same examples."""
    (first, here), (second, there) = (
        (part.dataset, set(map(int, part.indices))) if type(part) is Subset else (part, None)
        for part in (one, other)
    )
    if first is not second and not _same_tensors(first, second):
        return
    if here is None or there is None:
        shared = len(one) if here is None and there is None else len(here or there or ())
    else:
        shared = len(here & there)
    if shared:
        raise UserError(
            f"`data`: {names[0]} and {names[1]} share {shared} examples, so a score on {names[1]} "
            "would say nothing about new ones; make them disjoint, or give the training set alone, "
            "of which a fifth is then held out"
        )


def _same_tensors(one: Any, other: Any) -> bool:
    """Whether two `TensorDataset`s hold the very same tensors."""
    return type(one) is type(other) is TensorDataset and all(
        a is b for a, b in zip(one.tensors, other.tensors, strict=False)
    )


def _num_classes(train: Brought) -> int:
    labels = train.labels()
    if labels is None:
        batch = next(iter(train.split().batches(min(512, len(train.dataset)))))
        targets = batch[1]
        if targets.is_floating_point() or targets.dtype.is_complex or not targets.numel():
            return 1
        return max(1, int(targets.max()) + 1)
    return int(labels.max()) + 1


def _digest(parts: dict[str, Brought], way: str) -> str:
    """Of all parts and how they become batches."""
    digest = hashlib.sha256(way.encode())
    for name, part in parts.items():
        digest.update(examples_digest(part.dataset, name).encode())
        digest.update(value_digest((part.collate, part.weights)).encode())
    return digest.hexdigest()[:16]


def loader_batch_size(data: Any) -> int | None:
    """Examples of a training batch as a `DataLoader` in `data` has them; None without one."""
    train = data[0] if isinstance(data, tuple) and data else data
    if not isinstance(train, DataLoader):
        return None
    size = train.batch_size or getattr(train.batch_sampler, "batch_size", None)
    return size if isinstance(size, int) else None
