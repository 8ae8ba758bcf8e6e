from __future__ import annotations

from collections import UserDict
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from ws_learner import UserError, split_dataset
from ws_learner.core import ProcessGroup, count_of, rank_slice, rows_of
from ws_learner.data import (
    Batch,
    DatasetSplit,
    as_batch,
    has_targets,
    read_rank_batches,
    split_digest,
    words_in,
)

X, Y = torch.arange(12.0).reshape(6, 2), torch.arange(6)
SENTENCES = [
    {"input_ids": [5] * n, "attention_mask": [1] * n, "labels": n % 2} for n in (3, 1, 4, 2, 5, 2)
]


def padded(examples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """As transformers' DataCollatorWithPadding, which needs a tokenizer."""
    longest = max(len(example["input_ids"]) for example in examples)
    batch = {
        key: torch.tensor([e[key] + [0] * (longest - len(e[key])) for e in examples])
        for key in ("input_ids", "attention_mask")
    }
    return batch | {"labels": torch.tensor([example["labels"] for example in examples])}


@pytest.mark.parametrize("key", ["labels", "label", "targets", "target"])
def test_targets_leave_a_dict(key: str) -> None:
    inputs, targets = as_batch(UserDict({"x": X, "more": {"y": X.numpy()}, key: Y.tolist()}))
    assert type(inputs) is dict
    assert list(inputs) == ["x", "more"]
    assert torch.equal(inputs["more"]["y"], X)
    assert torch.equal(targets, Y)


def test_pairs_and_longer_rows() -> None:
    assert as_batch([X, Y])[0] is X
    inputs, targets = as_batch((X, X + 1, Y))
    assert isinstance(inputs, tuple)
    assert torch.equal(inputs[1], X + 1)
    assert targets is Y
    assert isinstance(as_batch(({"x": X}, Y))[0], dict)


@pytest.mark.parametrize("found", [X, (X,), [{"x": X}], {"x": X, "labels": None}])
def test_examples_without_targets(found: Any) -> None:
    inputs, targets = as_batch(found)
    assert not has_targets(targets)
    assert len(targets) == count_of(inputs) == 6
    assert has_targets(Y)
    assert has_targets(X)


@pytest.mark.parametrize(
    ("found", "line"),
    [
        ({"x": X, "label": Y, "target": Y}, "a batch holds label and target: targets are read"),
        ({"labels": Y}, "a batch holds labels and no inputs"),
        ({"text": ["a", "b"], "label": Y}, r"inputs\['text'\] of a batch are texts"),
        ((X, {"boxes": Y}), "the targets of a batch are a dict of boxes"),
        ((X, (Y, ["a"] * 6)), "the targets of a batch are a tuple"),
        ((object(), Y), "inputs of a batch are a object"),
    ],
)
def test_what_is_no_batch_is_named(found: Any, line: str) -> None:
    with pytest.raises(UserError, match=line):
        as_batch(found)


def test_a_split_of_dicts_stacks_lists_of_numbers() -> None:
    rows = [{"x": [1.0 * i, 2.0], "ids": i, "label": i % 2} for i in range(6)]
    inputs, targets = next(DatasetSplit(rows).batches(6))
    assert torch.equal(inputs["x"], torch.tensor([[i, 2.0] for i in range(6)]))
    assert torch.equal(inputs["ids"], torch.arange(6))
    assert targets.tolist() == [0, 1] * 3


def test_sentences_of_several_lengths_are_collated() -> None:
    split = DatasetSplit(SENTENCES, collate_fn=padded)
    batches = list(split.batches(4))
    assert [inputs["input_ids"].shape for inputs, _ in batches] == [(4, 4), (2, 5)]
    assert [targets.tolist() for _, targets in batches] == [[1, 1, 0, 0], [1, 0]]
    words = words_in(batches[0][0], pad_id=None)
    assert words is not None
    assert words.sum(1).tolist() == [3, 1, 4, 2]
    with pytest.raises(UserError, match=r"cannot be stacked into a batch.*`collate_fn`"):
        next(DatasetSplit(SENTENCES).batches(4))


def test_a_collate_fn_that_fails_is_named() -> None:
    def broken(examples: list[Any]) -> Any:
        raise KeyError("pixels")

    with pytest.raises(UserError, match="`collate_fn`: fails on 2 examples, KeyError: 'pixels'"):
        next(DatasetSplit(SENTENCES, collate_fn=broken).batches(2))
    with pytest.raises(UserError, match="`pad_id` 0: `collate_fn` pads"):
        DatasetSplit(SENTENCES, collate_fn=padded, pad_id=0)


def test_a_collate_fn_that_workers_cannot_get_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {"collate_fn": lambda examples: padded(examples), "workers": 1}
    monkeypatch.setattr("multiprocessing.get_start_method", lambda allow_none: "spawn")
    with pytest.raises(UserError, match=r"`collate_fn` .*<lambda>: cannot be sent"):
        DatasetSplit(SENTENCES, **given)
    DatasetSplit(SENTENCES, collate_fn=padded, workers=1)
    monkeypatch.setattr("multiprocessing.get_start_method", lambda allow_none: "fork")
    DatasetSplit(SENTENCES, **given)


def test_random_numbers_of_a_collate_fn_follow_the_seed() -> None:
    def noisy(examples: list[Any]) -> Batch:
        return torch.rand(len(examples), 2), torch.zeros(len(examples))

    split = DatasetSplit(SENTENCES, collate_fn=noisy)
    first, again, other = (next(split.batches(3, seed=seed))[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


class Whole:
    """A split of one's own, of dicts."""

    def __len__(self) -> int:
        return 6

    def batches(self, batch_size: int, **given: Any) -> Any:
        for start in range(0, 6, batch_size):
            rows = slice(start, start + batch_size)
            yield {"x": X[rows], "scale": torch.tensor(3.0)}, Y[rows]


@pytest.mark.parametrize(
    "split",
    [Whole(), DatasetSplit([{"x": x, "label": y} for x, y in zip(X, Y.tolist(), strict=True)])],
)
def test_ranks_share_the_rows_of_structures(split: Any) -> None:
    whole = list(split.batches(3, seed=7, augment=True, drop_last=True))
    parts = [
        list(
            read_rank_batches(
                split, 3, process_group=ProcessGroup(rank=rank, size=2), seed=7, skip=0
            )
        )
        for rank in range(2)
    ]
    for rank, part in enumerate(parts):
        for (inputs, targets), (all_inputs, all_targets) in zip(part, whole, strict=True):
            rows = rank_slice(3, rank=rank, size=2)
            assert torch.equal(inputs["x"], rows_of(all_inputs, rows)["x"])
            assert torch.equal(targets, all_targets[rows])


def test_digests_see_every_part_of_a_structure() -> None:
    rows = [{"x": [i, 2.0], "y": [1], "label": 0} for i in range(40)]
    changed = [dict(row) for row in rows]
    changed[7]["y"] = [2]
    one, same, other = (
        split_dataset(data, num_classes=2) for data in (rows, [dict(r) for r in rows], changed)
    )
    assert one.digest == same.digest != other.digest
    assert one.input_shape == (2,)
    several = TensorDataset(X, X + 1, Y)
    moved = TensorDataset(X, X + 2, Y)
    assert split_digest(DatasetSplit(several)) != split_digest(DatasetSplit(moved))


def test_another_collate_fn_is_another_data_set() -> None:
    def longer(examples: list[Any]) -> Any:
        return padded([*examples, SENTENCES[4]])

    found = {
        split_dataset(SENTENCES * 2, num_classes=2, collate_fn=fn).digest for fn in (padded, longer)
    }
    assert len(found) == 2


def test_arrays_of_numpy_are_tensors() -> None:
    inputs, targets = as_batch((np.ones((2, 3), np.float32), np.array([0, 1])))
    assert inputs.dtype == torch.float32
    assert targets.dtype == torch.int64
