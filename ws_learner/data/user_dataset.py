"""A user's data set, split at random into the four splits of a learner."""

from __future__ import annotations

import hashlib
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Subset, TensorDataset

from ws_learner.core import OutputKind, UserError, as_whole, tensors_of, value_digest
from ws_learner.data.class_labels import class_labels, labels_to_stratify, say_missing_classes
from ws_learner.data.dataset_split import Collate, DatasetSplit, Examples, seeded_example
from ws_learner.data.reading import reading_order
from ws_learner.data.splits import DataSplits
from ws_learner.data.stratify import stratified_parts

__all__ = ["examples_digest", "input_shape", "split_dataset"]

_READ = 256


def split_dataset(
    dataset: Examples,
    *,
    num_classes: int,
    name: str = "data",
    search: float = 0.1,
    select: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    outputs: OutputKind | None = None,
    pad_id: int | None = None,
    collate_fn: Collate | None = None,
    stratify: bool = False,
) -> DataSplits:
    """Split a map-style data set at random; examples in no other split are for training.

    Args:
        dataset: (input, target) pairs; inputs such as float32 (C, H, W), targets such as integers.
            Or inputs of whole numbers: rows whose columns have a meaning, or sentences (see
            `pad_id`). Or several inputs, dicts, or examples without target: see `DatasetSplit`.
        num_classes: Number of classes, or of labels; 1 for numbers.
        name: Name of the data, for reports.
        search: Share for scoring rollouts, in (0, 1).
        select: Share for re-scoring the best rollouts, in (0, 1).
        test: Share for the test at the end, in (0, 1).
        seed: Seed of the split.
        outputs: What the outputs of a network on these data mean; None tells it from shapes and
            targets.
        pad_id: Number that pads sentences, see `DataSplits.pad_id`. Sentences may then differ in
            length, and a target may be one whole number per word.
        collate_fn: Makes a batch from a list of examples, see `DatasetSplit`.
        stratify: Each split holds the classes in proportion, and one example of each at least if
            there are enough. Needs class numbers that are known without reading the examples:
            those of a list, of a `TensorDataset`, or an attribute `targets` or `labels`.

    Returns:
        The splits. Their digest covers how they are split and all examples of a list, a
        `TensorDataset` or any data set of fewer than 512; of others about 256 spaced evenly, and
        all of their `targets` or `labels`, if they have such an attribute.

    Raises:
        UserError: A split would be empty, or `stratify` does not know the classes.
    """
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise UserError(
            f"split_dataset: a {type(dataset).__name__} is no map-style data set; give one with "
            "__len__ and __getitem__, such as the `dataset` of a DataLoader, or use as_splits"
        )
    seed, num_classes = as_whole(seed, name="seed"), as_whole(num_classes, name="num_classes")
    for share_name, share in (("search", search), ("select", select), ("test", test)):
        if not isinstance(share, numbers.Real) or not 0 <= share <= 1:
            raise UserError(f"`{share_name}` {share!r}: must be a share in (0, 1), such as 0.1")
    count = len(dataset)
    sizes = [round(share * count) for share in (search, select, test)]
    if min(sizes) < 1 or sum(sizes) >= count:
        raise UserError(
            f"split_dataset: {count} examples cannot be split by the shares {search:g}, "
            f"{select:g} and {test:g}; each split needs at least one example"
        )
    labels = labels_to_stratify(dataset) if stratify else None
    positions = _drawn(count, sizes, seed=seed, labels=labels)
    if not stratify and (known := class_labels(dataset)) is not None and known.max() < num_classes:
        names = ("search", "select", "test", "train")
        say_missing_classes(known, dict(zip(names, positions, strict=True)))
    parts: list[DatasetSplit] = []
    for chosen in positions:
        own: Examples = Subset(dataset, chosen)  # type: ignore[arg-type]
        parts.append(DatasetSplit(own, pad_id=pad_id, collate_fn=collate_fn))
    way = f"{sizes} {seed}{' stratified' if stratify else ''}"
    way += "" if pad_id is None else f" pad {pad_id}"
    if collate_fn is not None:
        way += f" collate {value_digest(collate_fn)}"
    return DataSplits(
        name=name,
        digest=examples_digest(dataset, way),
        num_classes=num_classes,
        input_shape=input_shape(dataset, parts[3]),
        search=parts[0],
        select=parts[1],
        test=parts[2],
        train=parts[3],
        outputs=outputs,
        pad_id=pad_id,
    )


def _drawn(
    count: int, sizes: Sequence[int], *, seed: int, labels: npt.NDArray[np.int64] | None
) -> list[list[int]]:
    """Positions of the search, select, test and train split, stratified if there are labels."""
    if labels is not None:
        return [part.tolist() for part in stratified_parts(labels, sizes=sizes, seed=seed)]
    order = reading_order(count, seed=seed, augment=False).tolist()
    parts = []
    for size in (*sizes, count - sum(sizes)):
        parts.append(order[:size])
        order = order[size:]
    return parts


def examples_digest(dataset: Examples, way: str) -> str:
    """Digest of a data set, see `split_dataset`, and of the way it is split."""
    digest = hashlib.sha256(f"{len(dataset)} {way}".encode())
    stride = max(1, len(dataset) // _READ)
    if stride > 1:  # not all of them are read
        digest.update(value_digest(_in_memory(dataset)).encode())
    for index in range(0, len(dataset), stride):
        example = _read(dataset, index)
        if _is_plain(example):
            for part in example:
                digest.update(torch.as_tensor(part).numpy().tobytes())
        else:
            digest.update(value_digest(example).encode())
    return digest.hexdigest()[:16]


def _read(dataset: Examples, index: int) -> Any:
    try:
        with seeded_example(index):
            return dataset[index]
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"`data`: reading example {index} of {len(dataset)} fails, {type(error).__name__}: "
            f"{' '.join(str(error).split())}; mend it, or leave it out with a Subset"
        ) from error


def _is_plain(example: Any) -> bool:
    """Whether an example is a pair of numbers and arrays, as most are."""
    kinds = (Tensor, np.ndarray, np.generic, int, float, list)
    if not isinstance(example, list | tuple) or not all(isinstance(x, kinds) for x in example):
        return False
    if any(isinstance(x, list) and not _is_numbers(x) for x in example):
        return False  # several inputs in a list
    return not any(isinstance(x, Tensor) and x.dtype == torch.bfloat16 for x in example)


def _is_numbers(values: list[Any]) -> bool:
    """Whether a list, or each list in it, holds plain numbers only."""
    return all(
        _is_numbers(x) if isinstance(x, list) else isinstance(x, int | float) for x in values
    )


def input_shape(dataset: Examples, split: DatasetSplit) -> tuple[int, ...]:
    """Shape of the first input of one example."""
    with seeded_example(0):
        example = dataset[0]
    if _is_plain(example) and len(example) == 2:
        return tuple(torch.as_tensor(example[0]).shape)
    inputs, _ = next(split.batches(1))
    return next(tuple(tensor.shape[1:]) for tensor in tensors_of(inputs))


def _in_memory(dataset: object) -> object:
    """What a data set shows of its contents without reading examples: all of it, or targets."""
    if isinstance(dataset, list | tuple):
        return dataset
    if type(dataset) is TensorDataset:
        return dataset.tensors
    if type(dataset) is Subset:
        return list(dataset.indices), _in_memory(dataset.dataset)
    names = ("targets", "labels")
    return [value for name in names if (value := getattr(dataset, name, None)) is not None]
