from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ws_learner.pruning.criteria import magnitude
from ws_learner.pruning.patterns import mask
from ws_learner.pruning.patterns.mask import count_zeros, keep_largest, sparsity
from ws_learner.pruning.patterns.pattern import Unstructured

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, max_side=5)
TIED = st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 0.5, 1.0, np.inf])
FREE = st.floats(allow_nan=False, width=32)


def oracle(score: np.ndarray, zeros: int) -> np.ndarray:
    keep = np.ones(score.size, dtype=bool)
    keep[np.argsort(score.reshape(-1), kind="stable")[:zeros]] = False
    return keep.reshape(score.shape)


@given(data=st.data())
@settings(max_examples=60)
@pytest.mark.parametrize("elements", [TIED, FREE], ids=["ties", "free"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_keep_largest_is_a_stable_sort(data: st.DataObject, elements, dtype) -> None:
    score = data.draw(hnp.arrays(dtype, SHAPES, elements=elements))
    zeros = data.draw(st.integers(0, score.size))
    mask = keep_largest(torch.from_numpy(score), zeros)
    assert mask.dtype == torch.bool
    np.testing.assert_array_equal(mask.numpy(), oracle(score, zeros))
    assert count_zeros(mask) == zeros


@given(size=st.integers(1, 40), data=st.data())
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.uint8])
def test_other_number_formats(size: int, data: st.DataObject, dtype: torch.dtype) -> None:
    score = torch.randint(0, 6, (size,), generator=torch.Generator().manual_seed(size)).to(dtype)
    zeros = data.draw(st.integers(0, size))
    expected = oracle(score.double().numpy(), zeros)
    np.testing.assert_array_equal(keep_largest(score, zeros).numpy(), expected)


@given(data=st.data())
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64]
)
def test_large_tensors_without_a_copy(data: st.DataObject, dtype: torch.dtype) -> None:
    elements = st.integers(-3, 3) if dtype == torch.int64 else TIED | st.floats(-9, 9, width=16)
    values = data.draw(hnp.arrays(np.float64, SHAPES, elements=elements))
    score, zeros = torch.from_numpy(values).to(dtype), data.draw(st.integers(0, values.size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mask, "_LARGE", 0)
        patch.setattr(mask, "_PART", 3)
        found = keep_largest(score, zeros)
    np.testing.assert_array_equal(found.numpy(), oracle(score.double().numpy(), zeros))


@pytest.mark.parametrize("zeros", [0, 1, 100, 119, 120])
def test_memory_layout_does_not_matter(zeros: int) -> None:
    score = torch.randint(0, 9, (2, 3, 4, 5), generator=torch.Generator().manual_seed(0)).float()
    expected = keep_largest(score, zeros)
    for same in (
        score.to(memory_format=torch.channels_last),
        score.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
        score.clone().requires_grad_(),
    ):
        assert torch.equal(keep_largest(same, zeros), expected)


def test_a_large_tensor_with_many_ties() -> None:
    score = torch.randint(0, 100, (300, 1000), generator=torch.Generator().manual_seed(1)).float()
    for zeros in (1, 150_001, 299_999):
        expected = oracle(score.numpy(), zeros)
        np.testing.assert_array_equal(keep_largest(score, zeros).numpy(), expected)


@pytest.mark.parametrize("zeros", [-1, 5])
def test_impossible_counts_are_refused(zeros: int) -> None:
    with pytest.raises(ValueError, match=rf"zeros {zeros} is outside \[0, 4\]"):
        keep_largest(torch.ones(2, 2), zeros)


@pytest.mark.parametrize("zeros", [0, 1, 3])
def test_nan_is_refused_at_any_count(zeros: int) -> None:
    with pytest.raises(ValueError, match="NaN"):
        keep_largest(torch.tensor([1.0, torch.nan, torch.inf]), zeros)


def test_a_count_must_be_whole() -> None:
    with pytest.raises(TypeError):
        keep_largest(torch.ones(4), 1.5)  # type: ignore[arg-type]


def test_nothing_to_prune_in_an_empty_tensor() -> None:
    assert keep_largest(torch.empty(0, 3), 0).shape == (0, 3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("zeros", [1, 5000, 9999])
def test_a_gpu_gives_the_same_mask(zeros: int) -> None:
    score = torch.randint(0, 50, (100, 100), generator=torch.Generator().manual_seed(2)).float()
    assert torch.equal(keep_largest(score.cuda(), zeros).cpu(), keep_largest(score, zeros))


def test_zeros_are_counted_over_all_tensors() -> None:
    tensors = [torch.tensor([0.0, -0.0, 1e-38]), torch.tensor([[True], [False]])]
    assert [count_zeros(t) for t in tensors] == [2, 1]
    assert sparsity(tensors) == pytest.approx(3 / 5)
    assert sparsity([]) == 0.0


def test_magnitude_pruning_ignores_the_sign() -> None:
    weight = torch.nn.Parameter(torch.tensor([[-3.0, 0.1], [2.0, -0.2]]))
    score = magnitude(weight)
    assert not score.requires_grad
    assert Unstructured().mask(score, 2).tolist() == [[True, False], [True, False]]
