"""Data as people bring them, as splits: parts, loaders, samplers, streams, refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from ws_learner import DataSplits, UserError, as_splits
from ws_learner.data import split_dataset

COUNT = 200
NUMBERS = torch.arange(COUNT, dtype=torch.float32)[:, None]
LABELS = torch.arange(COUNT) % 4
WHOLE = TensorDataset(NUMBERS, LABELS)


def members(split: Any, **how: Any) -> list[int]:
    return [int(x) for inputs, _ in split.batches(32, **how) for x in inputs.flatten()]


def classes(split: Any) -> list[int]:
    found = torch.cat([targets for _, targets in split.batches(32)])
    return torch.bincount(found, minlength=4).tolist()


def part(start: int, stop: int) -> Subset[Any]:
    return Subset(WHOLE, range(start, stop))


class Stream(IterableDataset[Any]):
    def __init__(self, count: int | None) -> None:
        self.count = count

    def __iter__(self) -> Iterator[Any]:
        number = 0
        while self.count is None or number < self.count:
            yield torch.tensor([float(number)]), number % 4
            number += 1


def test_of_one_data_set_a_fifth_is_held_out_with_the_classes_in_proportion() -> None:
    splits = as_splits(WHOLE)
    train, search, select = map(members, (splits.train, splits.search, splits.select))
    assert sorted(train + search + select) == list(range(COUNT))
    assert (len(train), len(search), len(select)) == (160, 20, 20)
    assert sorted(members(splits.test)) == sorted(search + select)
    assert (splits.measured_on, splits.num_classes, splits.input_shape) == ("validation", 4, (1,))
    assert classes(splits.train) == [40] * 4
    assert classes(splits.search) == classes(splits.select) == [5] * 4


def test_sets_of_ones_own_keep_their_part() -> None:
    pair = as_splits((part(0, 150), part(150, 200)))
    assert sorted(members(pair.train)) == list(range(150))
    assert sorted(members(pair.search) + members(pair.select)) == list(range(150, 200))
    assert members(pair.test) == list(range(150, 200))
    assert pair.measured_on == "validation"
    three = as_splits((part(0, 100), part(100, 150), part(150, 200)))
    assert sorted(members(three.search) + members(three.select)) == list(range(100, 150))
    assert members(three.test) == list(range(150, 200))
    assert three.measured_on == "test"


def test_splits_stay_as_they_are_and_data_decide_the_digest() -> None:
    splits = as_splits(WHOLE)
    assert as_splits(splits) is splits
    assert as_splits(WHOLE).digest == splits.digest
    changed = NUMBERS.clone()
    changed[-1] += 1
    assert as_splits(TensorDataset(changed, LABELS)).digest != splits.digest
    assert as_splits(WHOLE, seed=1).digest != splits.digest
    assert as_splits(DataLoader(WHOLE, collate_fn=double)).digest != splits.digest


def double(examples: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.stack([2 * x for x, _ in examples]), torch.tensor([int(y) for _, y in examples])


def test_a_loader_keeps_its_collate_fn_and_its_workers() -> None:
    loader = DataLoader(WHOLE, 16, collate_fn=double, num_workers=1)
    splits = as_splits(loader)
    assert sorted(members(splits.train, seed=1) + members(splits.test)) == list(
        range(0, 2 * COUNT, 2)
    )


def test_the_part_that_a_sampler_reads_is_kept() -> None:
    train = DataLoader(WHOLE, 16, sampler=SubsetRandomSampler(range(0, 150)))
    validation = DataLoader(WHOLE, 16, sampler=SubsetRandomSampler(range(150, 200)))
    splits = as_splits((train, validation))
    assert sorted(members(splits.train)) == list(range(150))
    assert sorted(members(splits.test)) == list(range(150, 200))


def test_weights_of_a_sampler_decide_what_training_draws_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights = torch.tensor([3.0, 1.0, 0.0, 0.0])[LABELS]
    loader = DataLoader(WHOLE, 16, sampler=WeightedRandomSampler(weights, COUNT))
    splits = as_splits((loader, Stream(8)))
    assert "WeightedRandomSampler" in capsys.readouterr().err
    drawn = [n for epoch in range(20) for n in members(splits.train, seed=epoch, augment=True)]
    assert len(drawn) == 20 * COUNT
    share = np.bincount(LABELS[drawn], minlength=4) / len(drawn)
    # 4000 draws of probability 3/4: four standard deviations are 0.027.
    np.testing.assert_allclose(share, [0.75, 0.25, 0, 0], atol=0.03)
    again = members(splits.train, seed=3, augment=True)
    assert again == members(splits.train, seed=3, augment=True)
    assert again[32:] == members(splits.train, seed=3, augment=True, skip=1)
    assert sorted(members(splits.train, seed=3)) == list(range(COUNT))


def test_a_stream_is_taken_into_memory_up_to_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    splits = as_splits(DataLoader(Stream(50), 8, collate_fn=double))
    assert sorted(members(splits.train) + members(splits.test)) == list(range(0, 100, 2))
    assert "50 examples of the stream are in memory" in capsys.readouterr().err
    some = as_splits(Stream(None), max_examples=40)
    assert sorted(members(some.train) + members(some.test)) == list(range(40))


class Backwards:
    """A sampler of one's own that reads everything once."""

    def __len__(self) -> int:
        return COUNT

    def __iter__(self) -> Iterator[int]:
        return iter(range(COUNT - 1, -1, -1))


class Half(Backwards):
    def __iter__(self) -> Iterator[int]:
        return iter(range(0, COUNT, 2))


def test_another_order_is_replaced_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    splits = as_splits(DataLoader(WHOLE, 16, sampler=Backwards()))
    assert sorted(members(splits.train) + members(splits.test)) == list(range(COUNT))
    assert "the order of its Backwards is not kept" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (lambda: (NUMBERS, LABELS), "`data`, train: one tensor of shape (200, 1) is no data set"),
        (lambda: np.zeros((4, 2)), "one array of shape (4, 2) is no data set"),
        (lambda: {"train": WHOLE}, "a dict with train; give a DataLoader"),
        (lambda: "cifar10", "a str is not known as data; give a DataLoader"),
        (lambda: iter([1]), "a list_iterator is not known as data"),
        (lambda: (WHOLE,), "a tuple of 1 is not known; give (train, validation)"),
        (lambda: (WHOLE, WHOLE), "train and validation share 200 examples"),
        (lambda: (part(0, 120), part(100, 200)), "train and validation share 20 examples"),
        (lambda: (part(0, 120), part(120, 160), part(159, 200)), "validation and test share 1 "),
        (lambda: (part(0, 199), part(199, 200)), "the validation set has one example"),
        (lambda: part(0, 9), "has 9 examples, and needs 10"),
        (lambda: part(0, 0), "has no examples"),
        (lambda: DataLoader(WHOLE, 16, sampler=Half()), "its sampler Half does not read each"),
        (lambda: DataLoader(WHOLE, batch_size=None), "a DataLoader of batch_size None"),
        (lambda: Stream(0), "the stream has no examples"),
        (
            lambda: DataLoader(WHOLE, 16, sampler=WeightedRandomSampler([1.0, 2.0], COUNT)),
            "has 2 weights for 200 examples",
        ),
    ],
)
def test_what_cannot_be_followed_is_refused(data: Callable[[], Any], line: str) -> None:
    with pytest.raises(UserError) as caught:
        as_splits(data())
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_endless_stream_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ws_learner.data.stream.MOST_EXAMPLES", 30)
    with pytest.raises(UserError, match=r"has not ended after 30 examples; .*`max_examples`"):
        as_splits(Stream(None))
    assert len(as_splits(Stream(30)).train) == 24


def test_a_stream_that_outgrows_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ws_learner.data.stream._MOST_BYTES", 100)
    with pytest.raises(UserError, match="9 examples of the stream take more than"):
        as_splits(Stream(30))  # 4 bytes of an input and 8 of a label


class Pairs(Dataset[Any]):
    """Without its labels at hand."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Any:
        return NUMBERS[index], index % 7


def test_labels_that_are_not_at_hand_are_read_for_their_number() -> None:
    splits = as_splits(Pairs())
    assert isinstance(splits, DataSplits)
    assert splits.num_classes == 7
    assert as_splits(TensorDataset(NUMBERS, NUMBERS)).num_classes == 1
    assert as_splits(Pairs(), num_classes=10).num_classes == 10


class Broken(Pairs):
    def __getitem__(self, index: int) -> Any:
        if index == 17:
            raise OSError("17.jpg is truncated")
        return super().__getitem__(index)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ([WHOLE, WHOLE], "a list of 2 data sets or loaders; give a tuple (train, validation)"),
        ([DataLoader(Pairs())], "a list of 1 data sets or loaders; give a tuple"),
        (pd.DataFrame(np.zeros((40, 3))), "a DataFrame does not say which columns are inputs"),
        (Broken(), "fails, OSError: 17.jpg is truncated; mend it, or leave it out with a Subset"),
        (
            (TensorDataset(NUMBERS, NUMBERS), TensorDataset(NUMBERS, NUMBERS)),
            "train and validation share 200 examples",
        ),
    ],
)
def test_what_cannot_be_read_as_examples_is_refused(data: Any, line: str) -> None:
    with pytest.raises(UserError) as caught:
        as_splits(data)
    assert line in str(caught.value)


def test_several_inputs_in_a_list_are_examples() -> None:
    data = [([torch.zeros(2), torch.full((3,), float(place))], place % 2) for place in range(20)]
    (first, second), _ = next(iter(as_splits(data).train.batches(4)))
    assert (tuple(first.shape), tuple(second.shape)) == ((4, 2), (4, 3))
    other = [*data[:-1], ([torch.zeros(2), torch.zeros(3)], 1)]
    assert as_splits(data).digest != as_splits(other).digest


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"seed": "a"}, "`seed` 'a': must be a whole number of at least 0"),
        ({"seed": -1}, "`seed` -1: must be a whole number"),
        ({"num_classes": None}, "`num_classes` None: must be a whole number"),
        ({"test": "a"}, "`test` 'a': must be a share in (0, 1)"),
        ({"search": float("nan")}, "`search` nan: must be a share in (0, 1)"),
        ({"dataset": DataLoader(Pairs())}, "a DataLoader is no map-style data set"),
        ({"dataset": None}, "a NoneType is no map-style data set"),
    ],
)
def test_split_dataset_refuses_arguments_of_a_wrong_kind(given: dict[str, Any], line: str) -> None:
    arguments: dict[str, Any] = {"dataset": Pairs(), "num_classes": 7} | given
    with pytest.raises(UserError) as caught:
        split_dataset(arguments.pop("dataset"), **arguments)
    assert line in str(caught.value)
