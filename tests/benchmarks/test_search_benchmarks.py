"""The arithmetic of the search benchmarks: correlations, paired differences, resuming."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks import short_training
from benchmarks.paired_differences import interval, paired_differences
from benchmarks.reward_quality import SCORES, correlations
from benchmarks.short_training import TrainingJob, train_all
from ws_learner.config.learner import WeightSparseConfig


def test_interval_is_students() -> None:
    values = np.random.default_rng(0).normal(size=7)
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert interval(values) == pytest.approx((high - low) / 2)
    assert math.isnan(interval(values[:1]))


def test_entrants_are_compared_seed_by_seed() -> None:
    rows = pd.DataFrame(
        [
            {"name": name, "target": target, "seed": seed, "score": base + seed + gain}
            for name, gain in (("ours", 0.5), ("theirs", 0.2))
            for target, base in ((0.9, 10.0), (0.95, 0.0))
            for seed in range(3)
        ]
    )
    rows = rows[~((rows["name"] == "theirs") & (rows["target"] == 0.9) & (rows["seed"] == 2))]
    table = paired_differences(rows, "score", reference="ours")
    theirs = table[table["name"] == "theirs"].set_index("target")
    # Seeds differ by whole units, entrants by 0.3: only pairing shows it.
    np.testing.assert_allclose(theirs["ours ahead by"], 0.3)
    np.testing.assert_allclose(theirs["+-"], 0.0, atol=1e-9)
    assert theirs["pairs"].to_dict() == {"0.9": 2, "0.95": 3, "all": 5}
    assert table[table["name"] == "ours"]["ours ahead by"].isna().all()


def test_correlations_are_spearmans_overall_and_among_the_best_trained() -> None:
    rng = np.random.default_rng(1)
    trained, noise = rng.random(12), rng.random(12)
    scores = pd.DataFrame(
        {"score": "one", "profile": range(12), "accuracy": trained**3, "kl": noise, "seconds": 1.0}
    )
    table = correlations(scores, trained).set_index("signal")
    assert table.loc["accuracy", ["all", "top half"]].tolist() == [1.0, 1.0]
    top = np.argsort(trained)[6:]
    assert table.loc["kl", "all"] == pytest.approx(stats.spearmanr(noise, trained).statistic)
    expected = stats.spearmanr(noise[top], trained[top]).statistic
    assert table.loc["kl", "top half"] == pytest.approx(expected)


def test_the_ways_of_scoring_are_settings_of_the_learner_and_differ() -> None:
    configs = [WeightSparseConfig(**changes) for changes in SCORES.values()]
    assert len(set(configs)) == len(configs)
    assert WeightSparseConfig() in configs


@pytest.mark.long
def test_training_goes_on_where_the_table_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [
        TrainingJob(name=name, zeros=(1, 2), target=0.9, seed=0, nb_epochs=1.0, split="select")
        for name in ("first", "second")
    ]
    table = tmp_path / "trained.csv"
    row = {"name": "first", "target": 0.9, "seed": 0, "nb_epochs": 1.0, "split": "select"}
    pd.DataFrame([row | {"zeros": "1 2", "accuracy": 0.25}]).to_csv(table, index=False)
    # The worker processes import the module anew, so its training is replaced by one that fails.
    monkeypatch.setattr(short_training, "_train", _fails)
    with pytest.raises(ZeroDivisionError, match="second"):
        train_all(jobs, workers=1, table=table)
    kept = train_all(jobs[:1], workers=1, table=table)
    assert kept["accuracy"].tolist() == [0.25]


def _fails(job: TrainingJob) -> float:
    raise ZeroDivisionError(job.name)
