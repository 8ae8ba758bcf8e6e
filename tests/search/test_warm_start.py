"""Profiles of an earlier search come to another target, best first, and only from fitting files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from agents.proposer import SEED
from envs.problem import LayerRow, Score
from tests.support.layer_rows import layer_rows
from ws_learner.core.errors import UserError
from ws_learner.search.context import AllocationContext
from ws_learner.search.history import Rollout, frame
from ws_learner.search.warm_start import load_earlier_profiles

SIZES = [1000, 4000, 2000]


def context(layers: tuple[LayerRow, ...], target: float) -> AllocationContext:
    sizes = np.array([row.weights for row in layers])
    return AllocationContext(
        layers=layers,
        budget=round(target * int(sizes.sum())),
        lower=np.zeros_like(sizes),
        upper=np.floor(0.995 * sizes).astype(np.int64),
        magnitudes=list,
        curves=lambda: (np.empty(0), np.empty((0, 0))),
    )


def write(
    path: Path, layers: tuple[LayerRow, ...], rows: list[tuple[str, list[int], float, str]]
) -> None:
    history = [
        Rollout(
            kind=kind,
            zeros=np.array(zeros),
            score=Score(
                reward=reward, accuracy=0.5, accuracy_before=0.5, divergence=1.0, failed=failed
            ),
        )
        for kind, zeros, reward, failed in rows
    ]
    path.write_text(frame(history, layers).to_csv(index=False))


def test_the_best_ones_keep_their_proportions_under_another_budget(tmp_path: Path) -> None:
    layers, path = layer_rows(SIZES), tmp_path / "rollouts.csv"
    good, better = [800, 3600, 1900], [600, 3800, 1900]
    write(
        path,
        layers,
        [
            (SEED, good, 0.4, ""),
            ("model", better, 0.6, ""),
            ("model", better, 0.5, ""),
            ("model", [0, 0, 0], 0.9, "it failed"),
            ("select", [900, 3500, 1900], 0.8, ""),
        ],
    )
    here = context(layers, 0.95)
    first, second = load_earlier_profiles(path, here, count=5)
    for profile, before in ((first, better), (second, good)):
        assert profile.sum() == here.budget
        kept, kept_before = np.array(SIZES) - profile, np.array(SIZES) - before
        # 10 % of the weights were kept, 5 % are: every layer keeps half as many.
        np.testing.assert_allclose(kept, kept_before / 2, atol=1)
    (only,) = load_earlier_profiles(path, here, count=1)
    assert only.tolist() == first.tolist()


@pytest.mark.parametrize("fault", ["missing", "other names", "other sizes", "no table"])
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, fault: str) -> None:
    layers, path = layer_rows(SIZES), tmp_path / "rollouts.csv"
    if fault == "other names":
        write(path, layer_rows([1000, 4000]), [("model", [1, 2], 0.5, "")])
    elif fault == "other sizes":
        write(path, layer_rows([5000, 4000, 2000]), [("model", [4000, 2, 3], 0.5, "")])
    elif fault == "no table":
        path.write_text("nothing of the kind")
    with pytest.raises(UserError, match=r"`ws_rollouts` .*a search on this network"):
        load_earlier_profiles(path, context(layers, 0.9), count=3)


def test_failed_and_nameless_scores_are_left_out_and_nothing_left_is_an_error(
    tmp_path: Path,
) -> None:
    layers, path = layer_rows(SIZES), tmp_path / "rollouts.csv"
    failed = [(SEED, [800, 3600, 1900], 0.9, "it failed")]
    good = [700, 3700, 1900]
    write(path, layers, [*failed, ("model", good, 0.1, "")])
    table = pd.read_csv(path, keep_default_na=False)
    odd = table.iloc[[1]].assign(reward=float("nan"), **{f"zeros/{layers[0].name}": 900})
    pd.concat([table, odd]).to_csv(path, index=False)  # as earlier versions wrote it
    (only,) = load_earlier_profiles(path, context(layers, 0.9), count=5)
    assert only.tolist() == good
    write(path, layers, failed)
    with pytest.raises(UserError, match=r"`ws_rollouts` .*none of its 1 rollouts has a score"):
        load_earlier_profiles(path, context(layers, 0.9), count=5)
