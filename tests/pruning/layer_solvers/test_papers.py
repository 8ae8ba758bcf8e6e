"""Wanda and SparseGPT against the papers' algorithms, mask by mask and weight by weight."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.layer_solver_papers import sparsegpt, wanda
from tests.support.solver_layers import random_layer, tensors
from ws_learner.pruning import solve_layer

SHAPES = [(5, 16), (24, 40), (40, 24), (1, 8), (16, 1)]


@pytest.mark.parametrize("shape", SHAPES[:-1])  # whole counts in every row
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_wanda_unstructured(shape: tuple[int, int], ratio: float) -> None:
    weight, inputs = random_layer(*shape, seed=1)
    solved = solve_layer(
        *tensors(weight, inputs), solver="wanda", pattern="unstructured", ratio=ratio
    )
    kept = wanda(weight, inputs, ratio=ratio)
    assert np.array_equal(solved.kept.numpy(), kept)
    torch.testing.assert_close(solved.weight, torch.tensor(weight * kept).float())


@pytest.mark.parametrize(("n", "m"), [(2, 4), (4, 8), (1, 4), (3, 10)])
def test_wanda_nm(n: int, m: int) -> None:
    weight, inputs = random_layer(12, 40, seed=2)
    ratio = (m - n) / m
    solved = solve_layer(*tensors(weight, inputs), solver="wanda", pattern=f"{n}:{m}", ratio=ratio)
    assert np.array_equal(solved.kept.numpy(), wanda(weight, inputs, ratio=ratio, n=n, m=m))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("damping", [0.01, 0.1])
def test_sparsegpt_unstructured(shape: tuple[int, int], ratio: float, damping: float) -> None:
    weight, inputs = random_layer(*shape, seed=3)
    solved = solve_layer(
        *tensors(weight, inputs),
        solver="sparsegpt",
        pattern="unstructured",
        ratio=ratio,
        damping=damping,
    )
    expected, kept = sparsegpt(weight, inputs, ratio=ratio, damping=damping)
    assert np.array_equal(solved.kept.numpy(), kept)
    np.testing.assert_allclose(solved.weight.double().numpy(), expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(("n", "m"), [(2, 4), (4, 8), (1, 4), (3, 10)])
def test_sparsegpt_nm(n: int, m: int) -> None:
    weight, inputs = random_layer(12, 40, seed=4)
    ratio = (m - n) / m
    solved = solve_layer(
        *tensors(weight, inputs), solver="sparsegpt", pattern=f"{n}:{m}", ratio=ratio
    )
    expected, kept = sparsegpt(weight, inputs, ratio=ratio, n=n, m=m)
    assert np.array_equal(solved.kept.numpy(), kept)
    np.testing.assert_allclose(solved.weight.double().numpy(), expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(("pattern", "n", "m"), [("unstructured", 0, 0), ("2:4", 2, 4)])
def test_sparsegpt_over_several_parts(pattern: str, n: int, m: int) -> None:
    weight, inputs = random_layer(4, 256, seed=5)  # two parts of 128 columns
    solved = solve_layer(*tensors(weight, inputs), solver="sparsegpt", pattern=pattern, ratio=0.5)
    expected, kept = sparsegpt(weight, inputs, ratio=0.5, n=n, m=m)
    assert np.array_equal(solved.kept.numpy(), kept)
    np.testing.assert_allclose(solved.weight.double().numpy(), expected, rtol=1e-3, atol=1e-4)


def test_wide_layers_have_a_float32_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = tensors(*random_layer(16, 64, seed=6))
    exact = solve_layer(*pair, solver="sparsegpt", pattern="unstructured", ratio=0.5)
    monkeypatch.setattr("ws_learner.pruning.layer_solvers.sparsegpt._EXACT", 1)
    single = solve_layer(*pair, solver="sparsegpt", pattern="unstructured", ratio=0.5)
    assert torch.equal(exact.kept, single.kept)
    torch.testing.assert_close(exact.weight, single.weight, rtol=1e-3, atol=1e-3)
