"""Padding: what is filled, cut and masked with a `pad_id`, and that nothing is without one."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.text import sentences
from ws_learner.core.errors import UserError
from ws_learner.data.dataset_split import DatasetSplit
from ws_learner.data.splits import DataSplits
from ws_learner.data.tokens import IGNORED, TokenSplit, by_length, stacked, words_in
from ws_learner.data.user_dataset import split_dataset

ROWS = [[5, 6, 7], [8], [9, 3], [4, 4, 4, 4]]
TAGS = [[1, 0, 2], [2], [0, 1], [1, 1, 1, 0]]


class Pairs:
    """(sentence, tags) as tensors."""

    def __init__(self, rows: list[list[int]], tags: list[Any]) -> None:
        self._pairs = [(torch.tensor(r), torch.tensor(t)) for r, t in zip(rows, tags, strict=True)]

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self._pairs[index]


def tagged(batches: list[tuple[Tensor, Tensor]], pad: int) -> list[list[tuple[int, int]]]:
    """Each sentence as (word, tag) pairs, sorted; padding must have no tag."""
    found = []
    for inputs, tags in batches:
        assert inputs.shape == tags.shape
        assert torch.equal(inputs == pad, tags == IGNORED)
        for words, own in zip(inputs.tolist(), tags.tolist(), strict=True):
            found.append([(w, t) for w, t in zip(words, own, strict=True) if w != pad])
    return sorted(found)


WHOLE = sorted(list(zip(r, t, strict=True)) for r, t in zip(ROWS, TAGS, strict=True))


@pytest.mark.parametrize("pad", [0, 99])
def test_sentences_and_their_tags_are_padded_and_cut_together(pad: int) -> None:
    splits = [DatasetSplit(Pairs(ROWS, TAGS), pad_id=pad)]
    splits += [TokenSplit(ROWS, TAGS)] if pad == 0 else []  # type: ignore[list-item]
    for split in splits:
        before = list(split.batches(2, seed=3))
        after = by_length(before, pad_id=pad)
        assert tagged(before, pad) == tagged(after, pad) == WHOLE
        assert [inputs.shape[1] for inputs, _ in after] == [2, 4]


def test_a_fixed_width_is_cut_to_the_longest_sentence_and_a_gap_is_kept() -> None:
    inputs = torch.tensor([[0, 5, 0, 6, 0, 0], [7, 0, 0, 0, 0, 0]])
    tags = torch.tensor([[IGNORED, 1, IGNORED, 2, 0, 0], [3, 0, 0, 0, 0, 0]])
    ((cut, own),) = by_length([(inputs, tags)], pad_id=0)
    assert cut.tolist() == [[7, 0, 0, 0], [0, 5, 0, 6]]
    assert own.tolist() == [[3, 0, 0, 0], [IGNORED, 1, IGNORED, 2]]


def test_targets_that_say_something_beyond_the_sentence_are_not_cut() -> None:
    inputs = torch.tensor([[5, 0, 0, 0]])
    flags = torch.tensor([[0, 1, 0, 1]])  # four labels of a sentence that happens to be four wide
    ((wide, same),) = by_length([(inputs, flags)], pad_id=0)
    assert torch.equal(wide, inputs)
    assert torch.equal(same, flags)


def test_without_a_pad_id_rows_stay_as_they_are() -> None:
    rows = torch.tensor([[3, 1, 0, 0], [0, 2, 1, 0]])
    batches = [(rows, torch.tensor([1, 0]))]
    assert by_length(batches, pad_id=None)[0][0] is rows
    assert words_in(rows, pad_id=None) is None
    assert torch.equal(stacked([rows, rows], pad_id=None), torch.cat([rows, rows]))


def test_the_data_says_what_its_padding_is() -> None:
    parts = {name: sentences(8) for name in ("train", "search", "select", "test")}
    data = DataSplits(name="text", digest="", num_classes=3, input_shape=(9,), **parts)
    assert data.pad_id == pickle.loads(pickle.dumps(data)).pad_id == 0
    own = split_dataset(Pairs(ROWS * 5, TAGS * 5), num_classes=3, pad_id=7)
    assert own.pad_id == 7
    numbers = split_dataset(Pairs([[1, 0]] * 20, [1] * 20), num_classes=2)
    assert numbers.pad_id is None
    other = split_dataset(Pairs([[1, 0]] * 20, [1] * 20), num_classes=2, pad_id=0)
    assert other.digest != numbers.digest


def test_lengths_that_differ_are_refused_with_the_name_of_what_pads_them() -> None:
    loose = DatasetSplit(Pairs(ROWS, [0] * 4))
    with pytest.raises(UserError, match=r"cannot be stacked.*`pad_id`"):
        list(loose.batches(2))
    one_by_one = [inputs for inputs, _ in loose.batches(1)]
    with pytest.raises(UserError, match=r"`pad_id` None: .*\(1,\) and \(2,\)"):
        stacked(one_by_one, pad_id=None)


@pytest.mark.parametrize("inputs", [torch.zeros(2, 3), torch.zeros(2, 3, 4, dtype=torch.int64)])
def test_a_pad_id_of_other_inputs_is_refused(inputs: Tensor) -> None:
    with pytest.raises(UserError, match="`pad_id` 0: the inputs are torch"):
        words_in(inputs, pad_id=0)
    pairs = [(row, 1) for row in inputs]
    with pytest.raises(UserError, match="`pad_id` 0: an input is torch"):
        next(DatasetSplit(pairs, pad_id=0).batches(2))


def test_tags_that_do_not_fit_their_sentence_are_refused() -> None:
    with pytest.raises(ValueError, match="one label per word piece"):
        TokenSplit([[1, 2], [3]], [[0, 1], [1, 1]])
    with pytest.raises(ValueError, match="2 sentences but 1 labels"):
        TokenSplit([[1, 2], [3]], np.array([0]))
