"""The solvers closed and alternating: least squares against NumPy, and falling losses."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.layer_solver_papers import Array, Mask
from tests.support.solver_layers import loss, random_layer, tensors
from ws_learner.pruning import LayerRegression, Solved, solve_layer
from ws_learner.pruning.layer_solvers.alternating import alternating, improve
from ws_learner.pruning.layer_solvers.layer_problem import LayerProblem, LayerTarget
from ws_learner.pruning.layer_solvers.sparsegpt import sweep

PATTERNS = ["unstructured", "2:4", "4:8", "4x1", "2x2"]


def best_fit(weight: Array, inputs: Array, kept: Mask, *, damping: float) -> Array:
    """Least squares for each row by NumPy: rows of sqrt(lambda) stand for the damping."""
    level = damping * float((inputs**2).sum(0).mean())
    seen = np.concatenate([inputs, np.sqrt(level) * np.eye(inputs.shape[1])])
    fitted = np.zeros_like(weight)
    for row, (dense, here) in enumerate(zip(weight, kept, strict=True)):
        if here.any():
            fitted[row, here] = np.linalg.lstsq(seen[:, here], seen @ dense, rcond=None)[0]
    return fitted


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("shape", [(8, 16), (32, 8), (4, 48)])
@pytest.mark.parametrize("damping", [0.01, 0.3])
def test_closed_is_numpys_least_squares(
    pattern: str, shape: tuple[int, int], damping: float
) -> None:
    weight, inputs = random_layer(*shape, seed=20)
    solved = solve_layer(
        *tensors(weight, inputs), solver="closed", pattern=pattern, ratio=0.5, damping=damping
    )
    expected = best_fit(weight, inputs, solved.kept.numpy(), damping=damping)
    np.testing.assert_allclose(solved.weight.double().numpy(), expected, rtol=1e-3, atol=1e-4)


def test_closed_has_wandas_mask_over_the_layer() -> None:
    given_weight, gram = tensors(*random_layer(16, 24, seed=21))
    fitted = solve_layer(given_weight, gram, solver="closed", pattern="unstructured", ratio=0.6)
    score = given_weight.numpy() ** 2 * np.diag(gram.numpy())
    expected = np.ones(score.size, dtype=bool)
    expected[np.argsort(score, axis=None)[: round(0.6 * score.size)]] = False
    assert np.array_equal(fitted.kept.numpy().ravel(), expected)


@pytest.mark.parametrize("solver", ["sparsegpt", "closed", "alternating"])
@settings(max_examples=20, deadline=None)
@given(
    pattern=st.sampled_from(PATTERNS),
    rows=st.integers(1, 16),
    columns=st.integers(1, 24),
    tokens=st.integers(1, 64),
    share=st.floats(0.05, 0.5),
    seed=st.integers(0, 999),
)
def test_fitting_never_loses_against_the_masked_weights(
    solver: str, pattern: str, rows: int, columns: int, tokens: int, share: float, seed: int
) -> None:
    weight, inputs = random_layer(rows, columns, tokens=tokens, seed=seed)
    solved = solve_layer(*tensors(weight, inputs), solver=solver, pattern=pattern, ratio=share)
    masked = torch.tensor(weight) * solved.kept
    least = loss(weight, masked, inputs, damping=0.01)
    energy = loss(weight, torch.zeros(rows, columns), inputs, damping=0.01)
    assert loss(weight, solved.weight, inputs, damping=0.01) <= least + 1e-5 * energy


@settings(max_examples=20, deadline=None)
@given(
    pattern=st.sampled_from(PATTERNS),
    rows=st.integers(1, 16),
    columns=st.integers(1, 24),
    tokens=st.integers(1, 64),
    share=st.floats(0.05, 0.5),
    seed=st.integers(0, 999),
)
def test_alternating_is_no_worse_than_sparsegpt_and_falls_with_every_sweep(
    pattern: str, rows: int, columns: int, tokens: int, share: float, seed: int
) -> None:
    weight, inputs = random_layer(rows, columns, tokens=tokens, seed=seed)
    target = LayerTarget(pattern=pattern, ratio=share)
    problem = LayerProblem.of(*tensors(weight, inputs), target)
    energy = loss(weight, torch.zeros(rows, columns), inputs, damping=0.01)
    found: list[Solved] = []
    for state, said in improve(problem, sweep(problem), sweeps=6):
        found.append(state)
        measured = loss(weight, state.weight, inputs, damping=0.01)
        assert abs(said - measured) <= 1e-4 * energy  # the loss that it goes by is the true one
    found.append(alternating(*tensors(weight, inputs), target, sweeps=6))
    losses = [loss(weight, state.weight, inputs, damping=0.01) for state in found]
    assert all(later <= earlier + 1e-5 * energy for earlier, later in itertools.pairwise(losses)), (
        losses
    )
    assert {int(state.kept.sum()) for state in found} == {int(found[0].kept.sum())}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_alternating_is_clearly_ahead_of_sparsegpt(pattern: str) -> None:
    ahead = []
    for seed in range(5):
        weight, inputs = random_layer(32, 64, seed=seed)
        swept, turned = (
            solve_layer(*tensors(weight, inputs), solver=solver, pattern=pattern, ratio=0.5)
            for solver in ("sparsegpt", "alternating")
        )
        ahead.append(loss(weight, turned.weight, inputs) / loss(weight, swept.weight, inputs))
    assert max(ahead) < 1
    assert np.mean(ahead) < 0.9


def test_alternating_is_near_the_best_of_all_masks() -> None:
    excess = {"sparsegpt": 0.0, "alternating": 0.0}
    for seed in range(10):
        weight, inputs = random_layer(1, 8, seed=seed)
        best = np.inf
        for places in itertools.combinations(range(8), 4):
            kept = np.zeros((1, 8), dtype=bool)
            kept[0, list(places)] = True
            fitted = best_fit(weight, inputs, kept, damping=0.01)
            best = min(best, loss(weight, torch.tensor(fitted), inputs, damping=0.01))
        for solver in excess:
            solved = solve_layer(
                *tensors(weight, inputs), solver=solver, pattern="unstructured", ratio=0.5
            )
            reached = loss(weight, solved.weight, inputs, damping=0.01) / best
            assert reached > 1 - 1e-4
            excess[solver] += (reached - 1) / 10
    assert excess["alternating"] < 0.25 * excess["sparsegpt"]


def test_without_sweeps_the_weights_that_sparsegpt_keeps_are_fitted() -> None:
    weight, inputs = random_layer(8, 16, seed=22)
    pair = tensors(weight, inputs)
    swept = solve_layer(*pair, solver="sparsegpt", pattern="2:4", ratio=0.5)
    fitted = alternating(*pair, LayerTarget(pattern="2:4", ratio=0.5), sweeps=0)
    assert torch.equal(swept.kept, fitted.kept)
    least = loss(weight, torch.tensor(best_fit(weight, inputs, swept.kept.numpy(), damping=0.01)),
                 inputs, damping=0.01)  # fmt: skip
    before, after = (loss(weight, s.weight, inputs, damping=0.01) for s in (swept, fitted))
    assert after - least < 0.1 * (before - least)


def test_every_step_of_conjugate_gradients_comes_closer() -> None:
    weight, inputs = random_layer(24, 32, seed=23)
    given_weight, gram = tensors(weight, inputs)
    kept = solve_layer(given_weight, gram, solver="wanda", pattern="unstructured", ratio=0.5).kept
    fit = LayerRegression(given_weight, gram[None], ridge=0.01)
    start = torch.randn(24, 32, generator=torch.Generator().manual_seed(0))
    losses = [
        loss(weight, fit.descend(kept, start=start, steps=steps), inputs, damping=0.01)
        for steps in (0, 1, 2, 4, 8, 16, 32)
    ]
    assert losses == sorted(losses, reverse=True)
    least = torch.tensor(best_fit(weight, inputs, kept.numpy(), damping=0.01))
    assert losses[-1] <= loss(weight, least, inputs, damping=0.01) * 1.001
