"""What a page computes by itself equals what the protocols and intervals of the same name give."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from envs import LayerRow
from ws_learner.report.html.baselines import baselines_of
from ws_learner.report.intervals import counted, share_interval
from ws_learner.search import AllocationContext
from ws_learner.search.closed_form import run_closed_form


@pytest.mark.parametrize("target", [0.3, 0.75, 0.97])
@pytest.mark.parametrize("seed", range(4))
def test_the_ratios_are_those_of_the_protocols(target: float, seed: int) -> None:
    draw = np.random.default_rng(seed)
    shapes = [tuple(int(n) for n in draw.integers(1, 40, draw.integers(1, 5))) for _ in range(9)]
    weights = np.array([np.prod(shape) for shape in shapes], dtype=np.int64)
    budget = round(target * int(weights.sum()))
    upper = np.floor(0.995 * weights).astype(np.int64)
    planned = np.minimum(np.ceil(target * weights).astype(np.int64), upper)
    if planned.min() == 0 or upper.sum() < budget:
        pytest.skip("a layer too small for a zero")
    ratios = planned / weights
    frame = pd.DataFrame(
        {
            "layer": [f"l{place}" for place in range(9)],
            "weights": weights,
            "prune_ratio": ratios,
            "shape": ["x".join(map(str, shape)) for shape in shapes],
        }
    )
    layers = tuple(
        LayerRow(name=f"l{i}", kind="linear", role="ff", shape=s, weights=int(w), macs=int(w))
        for i, (s, w) in enumerate(zip(shapes, weights, strict=True))
    )
    context = AllocationContext(
        layers=layers,
        budget=int(planned.sum()),
        lower=np.zeros_like(weights),
        upper=upper,
        magnitudes=lambda: (),
        curves=lambda: (np.zeros(0), np.zeros((0, 0))),
    )
    found = baselines_of(frame, most=0.995)
    assert set(found) == {"uniform", "heurist", "erk"}
    for name, zeros in found.items():
        assert zeros.tolist() == run_closed_form(name, context).tolist(), name


def test_layers_without_zeros_stay_dense() -> None:
    frame = pd.DataFrame(
        {"weights": [10, 100], "prune_ratio": [0.0, 0.5], "shape": ["10", "10x10"]}
    )
    for zeros in baselines_of(frame, most=0.9).values():
        assert zeros.tolist() == [0, 50]
    assert baselines_of(frame.assign(prune_ratio=[0.0, 1.0]), most=0.9) == {}


@pytest.mark.parametrize(
    ("hits", "total"), [(0, 7), (7, 7), (1, 3), (9112, 10_000), (49_999, 50_000)]
)
def test_the_interval_is_wilsons(hits: int, total: int) -> None:
    found = binomtest(hits, total).proportion_ci(method="wilson")
    assert share_interval(hits / total, total) == pytest.approx((found.low, found.high), abs=1e-12)
    assert counted(float(np.float32(hits / total)), total) == hits


def test_graded_scores_count_nothing() -> None:
    assert counted(0.5, 3) is None
    assert counted(1.5, 3) is None
    assert counted(-0.1, 10) is None
