"""The digest of a user's data set says what is in it, the same in every reading."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset

from ws_learner.data import DataSplits, content_digest, split_dataset

COUNT = 2000  # more than are read one by one


def tensors(changed: int | None = None, *, part: int = 0, count: int = COUNT) -> TensorDataset:
    inputs, targets = torch.zeros(count, 3), torch.arange(count) % 3
    if changed is not None and part == 0:
        inputs[changed, 1] = 1
    elif changed is not None:
        targets[changed] = (targets[changed] + 1) % 3
    return TensorDataset(inputs, targets)


class Lazy(Dataset[tuple[Tensor, int]]):
    """Examples that exist only when read, with a random transform."""

    def __init__(self, targets: Sequence[int], *, scale: float = 1.0) -> None:
        self.targets, self._scale = list(targets), scale

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        noise = random.random() + float(np.random.rand()) + float(torch.rand(()))
        return torch.full((3,), index * self._scale + noise), self.targets[index]


def digest(dataset: object, *, seed: int = 0) -> str:
    return split_dataset(dataset, num_classes=3, seed=seed).digest  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [100, COUNT])
@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("place", [1, 50, 99])
def test_one_other_value_is_another_data_set(count: int, part: int, place: int) -> None:
    assert digest(tensors(count=count)) == digest(tensors(count=count))
    assert digest(tensors(place, part=part, count=count)) != digest(tensors(count=count))


def test_data_sets_in_memory_count_in_full() -> None:
    rows = [(torch.zeros(3), 0)] * COUNT
    other = [*rows[:777], (torch.ones(3), 0), *rows[778:]]
    assert digest(rows) == digest(list(rows)) != digest(other)
    order = list(range(COUNT))
    assert digest(Subset(tensors(), order)) != digest(Subset(tensors(777), order))
    assert digest(Subset(tensors(), order)) != digest(Subset(tensors(), order[::-1]))


def test_targets_of_a_data_set_that_is_read_lazily_count_in_full() -> None:
    plain = [place % 3 for place in range(COUNT)]
    changed = [*plain[:777], (plain[777] + 1) % 3, *plain[778:]]
    assert digest(Lazy(plain)) == digest(Lazy(plain))  # although its examples are random
    assert digest(Lazy(plain)) != digest(Lazy(changed))
    assert digest(Lazy(plain)) != digest(Lazy(plain, scale=2.0))


def test_a_digest_leaves_the_random_generators_alone() -> None:
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(())
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    digest(Lazy([0, 1, 2] * 20))
    assert (random.random(), np.random.rand(), torch.rand(())) == expected


def test_the_split_counts() -> None:
    assert digest(tensors(), seed=0) != digest(tensors(), seed=1)


def test_contents_count_whatever_the_digest_says() -> None:
    def made(data: DataSplits) -> str:
        return content_digest(
            DataSplits(
                name="made",
                digest="made up",
                num_classes=3,
                input_shape=(3,),
                train=data.train,
                search=data.search,
                select=data.select,
                test=data.test,
            )
        )

    plain = split_dataset(tensors(), num_classes=3)
    shifted = split_dataset(TensorDataset(torch.ones(COUNT, 3), torch.zeros(COUNT)), num_classes=3)
    assert made(plain) == made(split_dataset(tensors(), num_classes=3))
    assert made(plain) != made(shifted)
