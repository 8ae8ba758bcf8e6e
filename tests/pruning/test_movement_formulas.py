"""Threshold, cap, price and schedule of movement sparsity against float64 oracles."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ws_learner.core.errors import UserError
from ws_learner.pruning.methods.movement_scores import (
    importance_loss,
    initial_threshold,
    kept,
    kept_of_all,
    price,
    quantile,
)
from ws_learner.pruning.patterns.pattern import parse_pattern
from ws_learner.pruning.patterns.score_grid import ScoreGrid, grid_of
from ws_learner.pruning.schedules.movement_warmup import WarmUp

GRIDS = st.sampled_from(
    [
        ScoreGrid(shape=(6, 8)),
        ScoreGrid(shape=(6, 8), rows=2, columns=4),
        ScoreGrid(shape=(6, 8), rows=1, columns=8),
        ScoreGrid(shape=(6, 8), rows=6, columns=1),
        ScoreGrid(shape=(6,), rows=3),
        ScoreGrid(shape=(4, 3, 2, 2)),
    ]
)


@pytest.mark.parametrize(
    ("pattern", "weight", "bias"),
    [
        ("unstructured", (6, 8), (6,)),
        ("2x4", (3, 2), (3,)),
        ("1xchannel", (6, 1), (6,)),
        ("channelx1", (1, 8), (1,)),
    ],
)
def test_scores_have_the_published_shapes(
    pattern: str, weight: tuple[int, ...], bias: tuple[int, ...]
) -> None:
    grid = grid_of(parse_pattern(pattern), (6, 8))
    assert grid.score_shape == weight
    assert grid.bias(6).score_shape == bias


@given(grid=GRIDS, seed=st.integers(0, 99))
def test_spreading_repeats_and_summing_is_its_adjoint(grid: ScoreGrid, seed: int) -> None:
    draw = np.random.default_rng(seed)
    scores, values = draw.normal(size=grid.score_shape), draw.normal(size=grid.shape)
    full = scores.repeat(grid.rows, 0)
    full = full.repeat(grid.columns, 1) if full.ndim > 1 else full
    spread = grid.spread(torch.from_numpy(scores)).numpy()
    assert np.array_equal(spread, full)
    summed = grid.summed(torch.from_numpy(values)).numpy()
    assert np.isclose((summed * scores).sum(), (values * full).sum(), rtol=1e-12)


@pytest.mark.parametrize("pattern", ["4x4", "2x3", "2:4", "mha"])
def test_a_pattern_that_does_not_fit_is_refused(pattern: str) -> None:
    with pytest.raises(UserError, match=r"axis|`pattern`"):
        grid_of(parse_pattern(pattern), (6, 8))


@given(
    scores=st.lists(st.integers(-5, 5), min_size=1, max_size=60),
    repeats=st.integers(1, 7),
    share=st.floats(0, 1),
)
def test_quantile_is_numpys_of_repeated_scores(
    scores: list[int], repeats: int, share: float
) -> None:
    expanded = np.repeat(np.array(scores, dtype=np.float64), repeats)
    found = quantile(torch.tensor(scores, dtype=torch.float32), share, repeats=repeats)
    assert found == pytest.approx(np.quantile(expanded, share), abs=1e-9)


@given(
    scores=st.lists(st.integers(-8, 8), min_size=1, max_size=80),
    repeats=st.integers(1, 4),
    threshold=st.one_of(st.just(-math.inf), st.integers(-18, 18).map(lambda n: n / 2)),
    most=st.sampled_from([0.5, 0.75, 0.98]),
)
def test_kept_is_above_threshold_and_percentile(
    scores: list[int], repeats: int, threshold: float, most: float
) -> None:
    values = np.array(scores, dtype=np.float64)
    cap = np.quantile(np.repeat(values, repeats), most)
    found = kept(torch.tensor(scores, dtype=torch.float32), threshold, repeats=repeats, most=most)
    if abs(cap - round(cap)) > 1e-9 or cap == round(cap):  # no rounding decides
        assert found.tolist() == (values > min(threshold, cap)).tolist()


def test_about_two_percent_survive_any_threshold_and_ties_none() -> None:
    scores = torch.randn(50, 40)
    assert int(kept(scores, 1e9).sum()) == 40
    assert not kept(torch.zeros(5, 5), 0.0).any()  # strictly above, as published
    assert kept(torch.zeros(5, 5), -math.inf).all()


@given(seed=st.integers(0, 99), threshold=st.floats(-3, 3))
def test_many_masks_at_once_are_the_masks_of_each(seed: int, threshold: float) -> None:
    draw = np.random.default_rng(seed)
    sizes = [(7, 1), (60, 4), (200, 1)]
    parts = [(torch.from_numpy(draw.normal(size=n)), repeats) for n, repeats in sizes]
    found = kept_of_all(parts, threshold)
    for mask, (scores, repeats) in zip(found, parts, strict=True):
        cap = min(threshold, np.quantile(np.repeat(scores.numpy(), repeats), 0.98))
        clear = abs(scores.numpy() - cap) > 1e-6  # the cap itself may be a score
        np.testing.assert_array_equal(mask.numpy()[clear], (scores.numpy() > cap)[clear])


@pytest.mark.long
def test_the_cap_has_no_limit_on_the_size() -> None:
    scores = torch.arange(2**24 + 5, dtype=torch.int32).float()  # torch.quantile refuses this
    assert int(kept(scores, math.inf).sum()) == pytest.approx(0.02 * scores.numel(), rel=1e-4)


@given(
    sizes=st.lists(st.tuples(st.integers(1, 400), st.integers(1, 30)), min_size=1, max_size=4),
    seed=st.integers(0, 9),
    share=st.sampled_from([0.001, 0.1, 0.9]),
)
def test_first_threshold_is_the_kth_smallest_of_all(
    sizes: list[tuple[int, int]], seed: int, share: float
) -> None:
    draw = np.random.default_rng(seed)
    parts = [(draw.normal(size=n).astype(np.float32), repeats) for n, repeats in sizes]
    every = np.sort(np.concatenate([np.repeat(values, times) for values, times in parts]))
    rank = min(len(every), int(len(every) * share) + 1)
    found = initial_threshold([(torch.from_numpy(v), times) for v, times in parts], share)
    assert found == every[rank - 1]


def oracle_loss(layers: list[dict[str, np.ndarray | int]], factor: float) -> float:
    """The published formula, layer by layer."""

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    total = []
    for layer in layers:
        rows, columns = layer["r"], layer["c"]
        loss = rows * columns * sigmoid(layer["weight"]).mean()
        if "bias" in layer:
            loss += rows * sigmoid(layer["bias"]).mean()
        total.append(0.5 * factor * loss)
    return float(np.mean(total))


def test_loss_and_its_gradient_are_as_published() -> None:
    draw = np.random.default_rng(0)
    block = ScoreGrid(shape=(6, 8), rows=2, columns=4)
    row = ScoreGrid(shape=(5, 6), rows=1, columns=6)
    grids = [block, block.bias(6), row]
    scores = [draw.normal(size=grid.score_shape) for grid in grids]
    layers = [
        {"r": 2, "c": 4, "weight": scores[0], "bias": scores[1]},
        {"r": 1, "c": 6, "weight": scores[2]},
    ]
    tensors = [torch.tensor(s, requires_grad=True) for s in scores]
    parts = list(zip(tensors, grids, strict=True))
    loss = 0.3 * importance_loss(parts, layers=2, weights=84)
    assert loss.item() == pytest.approx(oracle_loss(layers, 0.3), rel=1e-12)
    loss.backward()
    for tensor, grid in parts:
        share = torch.sigmoid(tensor.detach())
        one = price(grid, layers=2, weights=84, normalize=False)
        expected = 0.3 * one * share * (1 - share)
        assert tensor.grad is not None
        assert torch.allclose(tensor.grad, expected, rtol=1e-12)


def test_normalised_every_weight_has_one_price() -> None:
    grids = [
        ScoreGrid(shape=(6, 8)),
        ScoreGrid(shape=(12, 8), rows=2, columns=4),
        ScoreGrid(shape=(5, 6), rows=1, columns=6),
    ]
    prices = {price(grid, layers=3, weights=174, normalize=True) / grid.size for grid in grids}
    assert prices == {1 / 174}
    parts = [(torch.zeros(grid.score_shape), grid) for grid in grids]
    loss = importance_loss(parts, layers=3, weights=174, normalize=True)
    assert float(loss) == pytest.approx(0.5, rel=1e-6)  # the mean of sigma(0)


def oracle_share(step: int, a: float, b: float, spe: int, power: float) -> float:
    begin, end = int(a * spe), int(b * spe)
    if step < begin:
        return 0.0
    if step >= end:
        return 1.0
    whole, rest = divmod(step - begin, spe)
    progress = min(max((whole + rest / spe) / (b - a), 0.0), 1.0)
    return 1 - (1 - progress) ** power


@given(
    a=st.integers(0, 12).map(lambda n: n / 4),
    length=st.integers(1, 12).map(lambda n: n / 4),
    spe=st.integers(4, 30),
    power=st.sampled_from([0.5, 1.0, 3.0]),
    step=st.integers(0, 200),
)
def test_schedule_is_the_published_one(
    a: float, length: float, spe: int, power: float, step: int
) -> None:
    ramp = WarmUp(start=a, end=a + length, steps_per_epoch=spe, power=power)
    assert ramp.share(step) == pytest.approx(oracle_share(step, a, a + length, spe, power))
    assert ramp.share(ramp.begin_step) == 0.0
    assert ramp.share(ramp.end_step) == 1.0
    assert ramp.share(ramp.end_step - 1) < 1.0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"start": -1.0}, "0 <= warmup_start_epoch < warmup_end_epoch"),
        ({"end": 1.0}, "0 <= warmup_start_epoch < warmup_end_epoch"),
        ({"power": 0.0}, "power 0"),
        ({"steps_per_epoch": 0}, "steps_per_epoch 0"),
        ({"end": 1.01}, "no step"),
    ],
)
def test_schedules_that_make_no_sense_are_refused(settings: dict[str, float], words: str) -> None:
    known: dict[str, float] = {"start": 1.0, "end": 3.0, "steps_per_epoch": 10, "power": 3.0}
    with pytest.raises(UserError, match=words):
        WarmUp(**(known | settings))  # type: ignore[arg-type]
