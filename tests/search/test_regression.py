"""Gram matrices and masked least squares against NumPy on the real inputs, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ws_learner.pruning.layer_solvers.least_squares import LayerRegression, relative_error
from ws_learner.pruning.layers.table import layer_table
from ws_learner.pruning.patterns.mask import keep_largest
from ws_learner.search.rollout.gram import collect_grams, unfolded_inputs

LAYERS = {
    "linear": (nn.Linear(7, 5), (40, 7)),
    "linear on tokens": (nn.Linear(6, 4), (12, 5, 6)),
    "conv2d": (nn.Conv2d(3, 6, 3, padding=1), (6, 3, 7, 5)),
    "conv2d, stride and dilation": (
        nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(2, 1), dilation=(2, 3)),
        (8, 2, 9, 8),
    ),
    "conv2d, grouped": (nn.Conv2d(4, 6, 3, groups=2, bias=False), (8, 4, 7, 7)),
    "conv2d, depthwise": (nn.Conv2d(5, 5, 3, groups=5, padding="same"), (8, 5, 6, 6)),
    "conv2d, reflected": (
        nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"),
        (8, 2, 6, 6),
    ),
    "conv1d": (nn.Conv1d(3, 4, 4, stride=2, padding=1), (10, 3, 16)),
    "conv1d, grouped": (nn.Conv1d(6, 4, 3, groups=2, padding="same", dilation=2), (10, 6, 12)),
}


def setup(name: str) -> tuple[nn.Module, Tensor]:
    layer, shape = LAYERS[name]
    generator = torch.Generator().manual_seed(len(name))
    inputs = torch.randn(shape, generator=generator)
    return layer, inputs + 0.5 * inputs.roll(1, dims=-1)  # correlated, as images are


@pytest.mark.parametrize("name", LAYERS)
def test_unfolded_inputs_times_weight_is_the_layers_output(name: str) -> None:
    layer, inputs = setup(name)
    columns = unfolded_inputs(layer, inputs)
    groups, _, width = columns.shape
    rows = layer.weight.detach().reshape(groups, -1, width)
    ours = torch.einsum("gnd,god->ngo", columns, rows).flatten(1)
    out = layer(inputs)
    out = out if isinstance(layer, nn.Linear) else out.movedim(1, -1)
    bias = 0 if layer.bias is None else layer.bias
    torch.testing.assert_close(ours, (out - bias).reshape(ours.shape).detach())


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.8])
def test_solution_is_numpys_least_squares_fit(name: str, ratio: float) -> None:
    layer, inputs = setup(name)
    model = nn.Sequential(layer)
    gram = collect_grams(
        model, [inputs], layers=layer_table(model, inputs), seed=0, positions=1000
    )[0]
    weight = layer.weight.detach()
    mask = keep_largest(weight.abs(), round(ratio * weight.numel()))
    solved = LayerRegression(weight, gram, ridge=1e-7).solve(mask)
    assert bool((solved[~mask] == 0).all())

    columns = unfolded_inputs(layer, inputs).double().numpy()
    groups, _, width = columns.shape
    dense = weight.double().numpy().reshape(groups, -1, width)
    keep, ours = mask.numpy().reshape(dense.shape), solved.numpy().reshape(dense.shape)
    for group in range(groups):
        for row in range(dense.shape[1]):
            kept = keep[group, row]
            target = columns[group] @ dense[group, row]
            best = np.linalg.lstsq(columns[group][:, kept], target, rcond=None)[0]
            np.testing.assert_allclose(ours[group, row, kept], best, rtol=2e-3, atol=2e-4)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 5),
    width=st.integers(1, 12),
    samples=st.integers(1, 30),
    dead=st.booleans(),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_error_lies_between_zero_and_that_of_pruning_alone(
    rows: int, width: int, samples: int, dead: bool, seed: int, data: st.DataObject
) -> None:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(samples, width, generator=generator)  # rank-deficient if samples < width
    if dead:
        inputs[:, 0] = 0
    weight = torch.randn(rows, width, generator=generator)
    gram = (inputs.T @ inputs / samples)[None]
    zeros = data.draw(st.integers(0, rows * width))
    mask = keep_largest(weight.abs(), zeros)
    solved = LayerRegression(weight, gram).solve(mask)
    assert bool(torch.isfinite(solved).all())
    assert int((solved == 0).sum()) >= zeros
    assert bool((solved[~mask] == 0).all())
    error = relative_error(weight, solved, gram)
    assert 0 <= error <= relative_error(weight, weight * mask, gram) * 1.01 + 1e-3


def test_a_full_mask_returns_the_dense_weight_and_an_empty_one_zero() -> None:
    weight, gram = torch.randn(4, 6), torch.eye(6)[None]
    regression = LayerRegression(weight, gram)
    assert torch.equal(regression.solve(torch.ones(4, 6, dtype=torch.bool)), weight)
    assert torch.equal(regression.solve(torch.zeros(4, 6, dtype=torch.bool)), torch.zeros(4, 6))


def test_a_layer_without_input_keeps_its_largest_weights() -> None:
    weight = torch.randn(4, 6)
    mask = keep_largest(weight.abs(), 12)
    solved = LayerRegression(weight, torch.zeros(1, 6, 6)).solve(mask)
    torch.testing.assert_close(solved, weight * mask)
    assert relative_error(weight, solved, torch.zeros(1, 6, 6)) == 0


def test_inputs_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(ValueError, match="not finite"):
        LayerRegression(torch.ones(2, 2), torch.full((1, 2, 2), torch.nan))


def test_relative_error_is_that_of_the_outputs() -> None:
    inputs, weight, other = torch.randn(50, 6), torch.randn(3, 6), torch.randn(3, 6)
    gram = (inputs.T @ inputs / 50)[None]
    outputs, others = inputs.double() @ weight.T.double(), inputs.double() @ other.T.double()
    expected = float(((others - outputs) ** 2).sum() / (outputs**2).sum())
    assert relative_error(weight, other, gram) == pytest.approx(expected, rel=1e-4)


def test_a_layer_that_runs_twice_counts_both_runs() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(torch.relu(self.fc(x)))

    model, x = Twice(), torch.randn(20, 3)
    gram = collect_grams(model, [x[:8], x[8:]], layers=layer_table(model, x), seed=0)[0][0]
    with torch.no_grad():
        both = torch.cat([x, torch.relu(model.fc(x))]).double()
    torch.testing.assert_close(gram.double(), both.T @ both / 40, rtol=1e-5, atol=1e-6)
    assert not model.fc._forward_pre_hooks
    assert model.training


def test_sampled_positions_are_real_ones_and_depend_on_the_seed_alone() -> None:
    layer, x = nn.Conv2d(2, 3, 3, padding=1), torch.randn(4, 2, 6, 6)
    some = unfolded_inputs(layer, x, 5, torch.Generator().manual_seed(1))
    again = unfolded_inputs(layer, x, 5, torch.Generator().manual_seed(1))
    every = {tuple(row) for row in unfolded_inputs(layer, x)[0].tolist()}
    assert some.shape == (1, 20, 18)
    assert torch.equal(some, again)
    assert {tuple(row) for row in some[0].tolist()} <= every


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.7])
def test_a_large_layer_comes_close_to_the_least_error_and_keeps_its_zeros(ratio: float) -> None:
    generator = np.random.default_rng(3)
    # 450 rows of 384: large enough for conjugate gradients; inputs of uneven size, correlated.
    mixing = generator.normal(size=(384, 384)) / 20 + np.diag(generator.uniform(0.3, 2.0, 384))
    inputs = generator.normal(size=(3_000, 384)) @ mixing
    weight = torch.from_numpy(generator.normal(size=(450, 384))).float()
    gram = torch.from_numpy(inputs.T @ inputs / 3_000)[None].float()
    mask = keep_largest(weight.abs(), round(ratio * weight.numel()))
    solved = LayerRegression(weight, gram).solve(mask)
    assert torch.equal(solved != 0, mask)
    exact = np.zeros((450, 384))
    matrix, dense = gram[0].double().numpy(), weight.double().numpy()
    for row, kept in enumerate(mask.numpy()):
        target = (dense[row] @ matrix)[kept]
        exact[row, kept] = np.linalg.solve(matrix[np.ix_(kept, kept)], target)
    least = relative_error(weight, torch.from_numpy(exact), gram)
    plain = relative_error(weight, weight * mask, gram)
    error = relative_error(weight, solved, gram)
    assert error - least < 0.02 * (plain - least)
