"""What a GPU does differently, checked on the CPU: same batches, same masks, nothing waited for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.nm_oracle import mask_of
from ws_learner.data.arrays import ArraySplit
from ws_learner.data.device_arrays import DeviceArrays, on_device
from ws_learner.pruning.patterns.nm_selection import keep_of_groups, keep_without_waiting


def split(count: int = 23, *, flip: bool = True) -> ArraySplit:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 6, 5, 3), dtype=np.uint8)
    labels = rng.integers(0, 9, count)
    return ArraySplit(
        images, labels, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), padding=2, flip=flip
    )


@pytest.mark.parametrize("skip", [0, 2])
@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"seed": 3, "augment": True, "drop_last": True},
        {"seed": 3, "augment": True},
        {"seed": 5},
        {},
    ],
)
def test_batches_are_those_of_the_cpu_to_the_bit(
    options: dict[str, Any], skip: int, flip: bool
) -> None:
    known = split(flip=flip)
    there = DeviceArrays(known, "cpu")
    assert len(there) == len(known)
    expected = list(known.batches(5, skip=skip, **options))
    found = list(there.batches(5, skip=skip, **options))
    assert len(found) == len(expected) > 0
    for (x, y), (a, b) in zip(found, expected, strict=True):
        assert x.shape == a.shape
        assert torch.equal(x, a)
        assert torch.equal(y, b)
        assert y.dtype == torch.int64
        assert x.is_contiguous(memory_format=torch.channels_last)


def test_without_a_gpu_the_split_is_its_own() -> None:
    known = split()
    assert on_device(known, "cpu") is known
    with pytest.raises(ValueError, match="needs a seed"):
        list(DeviceArrays(known, "cpu").batches(5, augment=True))


@settings(max_examples=60)
@given(
    m=st.sampled_from([2, 3, 4, 5, 8, 16, 33, 40]),
    share=st.floats(0, 1),
    rows=st.integers(1, 9),
    kinds=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_what_is_kept_is_the_same_with_ties(
    m: int, share: float, rows: int, kinds: int, seed: int
) -> None:
    """Few kinds of values, so that most groups have ties; rows may end in padding."""
    n = min(max(round(share * m), 1), m - 1)
    scores = np.random.default_rng(seed).integers(0, kinds, (rows, m)).astype(np.float32)
    scores[-1, m // 2 :] = -np.inf
    groups = torch.from_numpy(scores)
    found = keep_without_waiting(groups, n)
    assert torch.equal(found, keep_of_groups(groups, n))
    order = np.argsort(scores, axis=1, kind="stable")
    expected = np.ones_like(scores, dtype=bool)
    np.put_along_axis(expected, order[:, : m - n], False, axis=1)
    np.testing.assert_array_equal(found.numpy(), expected)


def test_many_groups_are_compared_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ws_learner.pruning.patterns.nm_selection._COMPARED", 100)
    scores = torch.from_numpy(np.random.default_rng(1).random((50, 8)))
    found = keep_without_waiting(scores, 3).numpy()
    np.testing.assert_array_equal(found, mask_of(scores.numpy(), 3, 8).astype(bool))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_batches_and_masks_are_those_of_the_cpu() -> None:
    known = split()
    for (x, y), (a, b) in zip(
        on_device(known, "cuda").batches(5, seed=3, augment=True),
        known.batches(5, seed=3, augment=True),
        strict=True,
    ):
        assert x.is_cuda
        assert torch.equal(x.cpu(), a)
        assert torch.equal(y.cpu(), b)
    for n, m in ((1, 4), (2, 4), (1, 8), (3, 8), (2, 16), (16, 128)):
        scores = torch.randint(0, 5, (64, m)).float()
        there = scores.cuda()
        torch.cuda.set_sync_debug_mode("error")
        try:
            kept = keep_of_groups(there, n)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert torch.equal(kept.cpu(), keep_of_groups(scores, n))
