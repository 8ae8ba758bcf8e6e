"""A user's data split by their classes, where these are known without reading examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, Subset, TensorDataset

from ws_learner import UserError, split_dataset
from ws_learner.data.class_labels import class_labels

LABELS = torch.tensor([0] * 80 + [1] * 15 + [2] * 5)
ROWS = torch.arange(200.0).reshape(100, 2)


class Shown(Dataset[Any]):
    """Shows its class numbers; reading an example is counted."""

    def __init__(self, **shown: Any) -> None:
        vars(self).update(shown)
        self.read = 0

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.read += 1
        return ROWS[index], int(LABELS[index])


@pytest.mark.parametrize(
    "data",
    [
        TensorDataset(ROWS, LABELS),
        [(row, int(label)) for row, label in zip(ROWS, LABELS, strict=True)],
        Shown(targets=LABELS.tolist()),
        Shown(targets=LABELS),
        Shown(labels=LABELS.numpy()),
        Subset(TensorDataset(ROWS.repeat(2, 1), LABELS.repeat(2)), list(range(100))),
    ],
    ids=["tensors", "list", "targets", "tensor", "labels", "subset"],
)
def test_classes_are_known_without_reading(data: Any) -> None:
    found = class_labels(data)
    assert found is not None
    np.testing.assert_array_equal(found, LABELS.numpy())
    assert getattr(data, "read", 0) == 0


@pytest.mark.parametrize(
    "data",
    [
        TensorDataset(ROWS, ROWS[:, 0]),  # numbers
        TensorDataset(ROWS, torch.stack([LABELS, LABELS], 1)),  # of each word
        TensorDataset(ROWS, LABELS - 1),
        [(row, 0.5) for row in ROWS],
        Shown(),
        Shown(targets=["cat"] * 100),
        Shown(targets=LABELS[:50]),
    ],
)
def test_what_is_no_class_number_is_not_taken_for_one(data: Any) -> None:
    assert class_labels(data) is None
    with pytest.raises(UserError, match=r"`stratify` True: .* as an attribute `targets`"):
        split_dataset(data, num_classes=3, stratify=True)


def test_each_split_holds_the_classes_in_proportion() -> None:
    data = split_dataset(TensorDataset(ROWS, LABELS), num_classes=3, stratify=True)
    wanted = {"search": (8, 1, 1), "select": (8, 1, 1), "test": (16, 3, 1)}
    seen: list[int] = []
    for name in ("search", "select", "test", "train"):
        chosen = getattr(data, name)._dataset.indices
        seen += chosen
        counts = np.bincount(LABELS[chosen], minlength=3)
        assert counts.min() >= 1
        if name in wanted:  # the rest is for training
            assert np.abs(counts - wanted[name]).max() <= 1
    assert sorted(seen) == list(range(100))
    plain = split_dataset(TensorDataset(ROWS, LABELS), num_classes=3)
    assert plain.digest != data.digest


def test_a_class_that_a_random_split_lacks_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    labels = LABELS.clone()
    labels[labels == 2] = 1
    labels[7] = 2  # one example: two of three smaller splits lack it, whatever the seed
    split_dataset(TensorDataset(ROWS, labels), num_classes=3)
    said = capsys.readouterr().err
    assert said.count("split has no example of class 2; give `stratify` True") >= 2
    split_dataset(TensorDataset(ROWS, labels), num_classes=1)  # numbers
    assert not capsys.readouterr().err
