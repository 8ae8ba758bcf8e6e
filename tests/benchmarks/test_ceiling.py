"""The ceiling: correlations against SciPy's, noise against its definition, order of trainings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.ceiling import Options, spread_out, training_jobs
from benchmarks.ceiling_report import pairs_of, write_ceiling_report
from benchmarks.ceiling_statistics import agreement, expected, noise_of_repeats, resampled
from benchmarks.made import made_line, noted

PROFILES = [f"{n} {100 - n}" for n in range(20)]


def trainings(noise: float, *, seeds: tuple[int, ...] = (0, 1)) -> pd.DataFrame:
    """Trainings of 20 profiles whose true accuracies are 0.70, 0.71, ..., 0.89."""
    rng = np.random.default_rng(0)
    rows = [
        {"name": name, "target": 0.95, "seed": seed, "nb_epochs": 1.0, "split": "select"}
        | {"zeros": name, "accuracy": 0.7 + place / 100 + noise * rng.normal()}
        for place, name in enumerate(PROFILES)
        for seed in seeds
    ]
    return pd.DataFrame(rows)


def test_agreement_is_spearmans_overall_and_in_the_better_half_both_ways() -> None:
    first, second = np.random.default_rng(1).normal(size=(2, 11))
    found = agreement(first, second)
    assert found.overall == pytest.approx(stats.spearmanr(first, second).statistic)
    halves = []
    for judge in (first, second):
        best = np.argsort(judge)[-5:]
        halves.append(stats.spearmanr(first[best], second[best]).statistic)
    assert found.better_half == pytest.approx(np.mean(halves))
    one_way = agreement(first, second, both_ways=False)
    assert one_way.better_half == pytest.approx(halves[1])


def test_noise_is_pooled_over_profiles_that_were_trained_again() -> None:
    rows = trainings(0.02, seeds=(0, 1, 2))
    rows = rows[~((rows["zeros"] == PROFILES[0]) & (rows["seed"] > 0))]
    noise = noise_of_repeats(rows)
    variances = rows[rows["zeros"] != PROFILES[0]].groupby("zeros")["accuracy"].var(ddof=1)
    assert noise.spread == pytest.approx(np.sqrt(variances.mean()))  # equal group sizes
    assert (noise.profiles, noise.freedom) == (19, 38)
    assert np.isnan(noise_of_repeats(rows[rows["seed"] == 0]).spread)


def test_without_noise_rankings_agree_and_with_nothing_else_they_do_not() -> None:
    once = trainings(0.0, seeds=(0,))["accuracy"].to_numpy()
    for found in expected(once, 1e-9, draws=20):
        assert (found.overall, found.better_half) == pytest.approx((1.0, 1.0))
    twice, _ = expected(once, float(once.std(ddof=1)), draws=400)
    assert abs(twice.overall) < 0.05


def test_expected_agreement_is_that_of_simulated_trainings() -> None:
    rng = np.random.default_rng(2)
    truth, noise = rng.normal(scale=0.02, size=400), 0.01
    first, second = (truth + noise * rng.normal(size=400) for _ in range(2))
    twice, perfect = expected(first, noise, draws=50)
    assert twice.overall == pytest.approx(stats.spearmanr(first, second).statistic, abs=0.05)
    assert perfect.overall == pytest.approx(stats.spearmanr(truth, second).statistic, abs=0.05)
    assert perfect.overall > twice.overall


def test_an_interval_holds_the_statistic_and_narrows_with_more_profiles() -> None:
    rng = np.random.default_rng(3)
    widths = []
    for count in (10, 200):
        first = rng.normal(size=count)
        second = first + rng.normal(size=count)
        low, high = resampled(lambda a, b: agreement(a, b).overall, first, second, draws=200)
        assert low < agreement(first, second).overall < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_every_beginning_of_the_order_is_spread_over_the_ranking() -> None:
    source = trainings(0.0, seeds=(0,)).sample(frac=1.0, random_state=0)
    ordered = spread_out(source)
    assert sorted(ordered["name"]) == sorted(source["name"])
    ranks = ordered["accuracy"].rank(ascending=False).to_numpy()
    for count in (4, 8, 12):
        assert np.diff(np.sort(ranks[:count])).max() <= 2 * len(source) / count


def test_first_trainings_are_taken_from_the_source_and_others_are_jobs(tmp_path: Path) -> None:
    source = trainings(0.01, seeds=(0,)).assign(zeros="1 2")
    jobs = training_jobs(source, Options(profiles=6))
    assert [(job.seed, job.zeros) for job in jobs] == 6 * [(0, (1, 2)), (1, (1, 2))]
    assert len({job.name for job in jobs}) == 6
    rows = trainings(0.01)
    first, second = pairs_of(rows)
    wide = rows.pivot(index="zeros", columns="seed", values="accuracy")
    assert sorted(zip(first, second, strict=True)) == sorted(zip(wide[0], wide[1], strict=True))
    rows.to_csv(tmp_path / "trained.csv", index=False)
    text = write_ceiling_report(tmp_path, source=source, accuracy=[tmp_path / "none.csv"])
    assert f"| 20 | {agreement(first, second).overall:.2f} |" in text
    assert "0.77 | 0.24" in text  # the reward that is judged stands beside it


def test_a_stopped_call_is_noted_with_the_rows_that_it_added(tmp_path: Path) -> None:
    notes, table = tmp_path / "made.csv", tmp_path / "trained.csv"
    trainings(0.0, seeds=(0,)).to_csv(table, index=False)
    with noted(notes, table):
        pass
    assert not notes.exists()  # nothing was added

    def stopped() -> None:
        with noted(notes, table):
            trainings(0.0).head(23).to_csv(table, index=False)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    with noted(notes, table):
        trainings(0.0).to_csv(table, index=False)
    assert pd.read_csv(notes)["rows"].tolist() == [3, 17]
    assert made_line(notes).startswith("20 trainings")
