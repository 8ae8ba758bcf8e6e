"""The recommender's front against float64, and what it refuses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ws_learner.deploy.runtime.codegen.pairs import PairProducts


def oracle(tables: list[Tensor], bottom: Tensor, categories: Tensor) -> np.ndarray:
    """All products i > j in float64, of vectors rounded to bfloat16."""
    looked_up = [table[categories[:, i]] for i, table in enumerate(tables)]
    vectors = torch.stack([bottom, *looked_up], 1).bfloat16().double().numpy()
    pairs = [(i, j) for i in range(len(tables) + 1) for j in range(i)]
    products = [(vectors[:, i] * vectors[:, j]).sum(1) for i, j in pairs]
    return np.concatenate([bottom.double().numpy(), np.stack(products, 1)], 1)


@settings(max_examples=25)
@given(
    count=st.sampled_from([1, 2, 15, 16, 17, 26, 31]),
    width=st.sampled_from([32, 64, 128]),
    batch=st.integers(0, 40),
    threads=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_one_pass_equals_the_oracle(
    count: int, width: int, batch: int, threads: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 9, (count,), generator=generator).tolist()
    tables = [torch.randn(rows, width, generator=generator) for rows in sizes]
    bottom = torch.randn(batch, width, generator=generator)
    columns = [torch.randint(0, rows, (batch, 1), generator=generator) for rows in sizes]
    categories = torch.cat(columns, 1)
    pairs = PairProducts(tables, threads=threads)
    wanted, got = oracle(tables, bottom, categories), pairs(bottom, categories).numpy()
    assert got.shape == wanted.shape
    # Sums in float32 of exact products; without AMX results are rounded to bfloat16 as well.
    assert (
        np.abs(got - wanted) <= (1e-4 if pairs.fused else 0.01) * (width + np.abs(wanted))
    ).all()
    np.testing.assert_array_equal(got[:, :width], bottom.numpy())


def test_widths_that_no_tile_fits_run_by_pytorch() -> None:
    tables, bottom = [torch.randn(5, 20), torch.randn(3, 20)], torch.randn(6, 20)
    categories = torch.tensor([[4, 0], [0, 2], [1, 1], [2, 2], [3, 0], [0, 0]])
    pairs = PairProducts(tables)
    assert not pairs.fused
    wanted = oracle(tables, bottom, categories)
    assert np.abs(pairs(bottom, categories).numpy() - wanted).max() < 0.02 * np.abs(wanted).max()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("wrong", [-1, 4, 2**62])
def test_categories_out_of_range_are_refused(fused: bool, wrong: int) -> None:
    pairs = PairProducts([torch.randn(4, 32), torch.randn(7, 32)])
    if fused and not pairs.fused:
        pytest.skip("no AMX here")
    pairs.fused = fused
    categories = torch.zeros(9, 2, dtype=torch.long)
    categories[8, 0] = wrong  # row 4 would be the next table's first
    with pytest.raises(IndexError, match="out of its table's range"):
        pairs(torch.randn(9, 32), categories)
    with pytest.raises(ValueError, match="do not fit"):
        pairs(torch.randn(9, 32), categories[:, :1])
    with pytest.raises(ValueError, match="do not fit"):
        pairs(torch.randn(9, 31), categories)


def test_threads_share_nothing() -> None:
    tables, bottom = [torch.randn(50, 64) for _ in range(9)], torch.randn(100, 64)
    categories = torch.randint(0, 50, (100, 9))
    pairs = PairProducts(tables, threads=2)
    wanted = pairs(bottom, categories)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(pairs, bottom[i:], categories[i:]) for i in range(60)]
        for i, call in enumerate(calls):
            assert torch.equal(call.result(), wanted[i:])
