"""Accuracy tables: cells, arithmetic of the page, one training for one profile, resuming."""

from __future__ import annotations

import shutil
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks import ablation_jobs, table_training
from benchmarks.accuracy_report import asked
from benchmarks.accuracy_table import CORE, MORE, Options, cells
from benchmarks.cifar_task import build_task
from benchmarks.family_table import Options as FamilyOptions
from benchmarks.family_table import cells as family_cells
from benchmarks.table_cells import Cell, cell_row
from benchmarks.table_report import compared, report_text, shown_difference
from benchmarks.table_runs import run_cells
from tests.support.tiny_experiment import Options as TinyOptions
from tests.support.tiny_experiment import build
from ws_learner.core import UserError


def made_up(**means: float) -> pd.DataFrame:
    """Rows of three seeds at 90 %; a protocol's accuracy is its mean, a seed's and its own luck."""
    rng = np.random.default_rng(0)
    luck = dict(zip(range(3), rng.normal(scale=0.02, size=3), strict=True))
    rows = [
        {"network": "n", "protocol": protocol, "target": 0.9, "seed": seed, "nb_epochs": 1.0}
        | {"accuracy": mean + luck[seed] + rng.normal(scale=0.002), "dense": 0.92}
        | {"kept_macs": 0.2, "job": f"n {protocol} 0.9 seed {seed}, 1 epochs", "commit": "abc"}
        | {"cpu": "c", "threads": 1, "bf16": True, "zeros": protocol, "rollouts": 0}
        | {"allocation_seconds": 1.0, "seconds": 60.0, "wall_seconds": 90.0}
        for protocol, mean in means.items()
        for seed in range(3)
    ]
    return pd.DataFrame(rows)


def test_core_cells_come_seed_by_seed_with_90_and_95_percent_first() -> None:
    found = cells(Options())
    assert len({cell.name for cell in found}) == len(found) == 45
    first = found[:10]
    assert {(cell.protocol, cell.target, cell.seed) for cell in first} == {
        (protocol, target, 0) for protocol in CORE for target in (0.9, 0.95)
    }
    assert [cell.seed for cell in found] == sorted(cell.seed for cell in found)


def test_more_cells_add_targets_protocols_and_seeds_to_the_core() -> None:
    found = cells(Options(more=True))
    places = {(cell.protocol, cell.target, cell.seed) for cell in found}
    assert len(places) == len(found)
    assert places == {
        (protocol, target, seed)
        for protocol in MORE
        for target in (0.5, 0.75, 0.9, 0.95, 0.98)
        for seed in range(5 if target in (0.95, 0.98) else 3)
    }
    assert found[:45] == cells(Options())


def test_a_search_has_a_profile_for_each_seed_and_a_rule_has_one() -> None:
    found = cells(Options())
    profiles = {(cell.protocol, cell.target): set[str]() for cell in found}
    for cell in found:
        profiles[cell.protocol, cell.target].add(cell.profile)
    assert {len(own) for key, own in profiles.items() if key[0] == "optimal"} == {3}
    assert {len(own) for key, own in profiles.items() if key[0] != "optimal"} == {1}


def test_differences_are_paired_with_students_interval() -> None:
    rows = made_up(optimal=0.85, uniform=0.80)
    table = compared(rows).set_index("name")
    wide = rows.pivot(index="seed", columns="protocol", values="accuracy")
    found = stats.ttest_rel(wide["optimal"], wide["uniform"])
    low, high = found.confidence_interval(0.95)
    assert table.loc["uniform", "ahead"] == pytest.approx((low + high) / 2)
    assert table.loc["uniform", "half"] == pytest.approx((high - low) / 2)
    assert np.isnan(table.loc["optimal", "ahead"])


def test_rows_that_win_over_optimal_and_rows_without_a_pair_stay() -> None:
    rows = made_up(optimal=0.85, better=0.87, uniform=0.80)
    rows = rows[~((rows["protocol"] == "optimal") & (rows["seed"] == 2))]
    rows = pd.concat([rows, made_up(alone=0.7).query("seed == 2")])
    table = compared(rows)
    assert table["name"].tolist() == ["better", "optimal", "uniform", "alone"]
    assert table["pairs"].tolist() == [2, 2, 2, 0]
    assert table["seeds"].tolist() == [3, 2, 3, 1]
    text = report_text(rows, head="# Title", cells=[])
    lines = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if "|" in line}
    assert "-" in lines["better"].split(" | ")[-1]  # optimal is behind
    assert lines["alone"].split(" | ")[-1].strip("| ") == ""


def test_without_optimal_means_are_shown_alone() -> None:
    table = compared(made_up(uniform=0.8, lamp=0.82))
    assert table["name"].tolist() == ["lamp", "uniform"]
    assert table["ahead"].isna().all()


def test_the_page_names_missing_cells_machine_time_and_commit() -> None:
    cell = Cell(
        network="digits", protocol="erk", target=0.95, seed=1, nb_epochs=1.0, work=Path("nowhere")
    )
    there = replace(cell, protocol="lamp")
    rows = made_up(optimal=0.85).assign(job=there.name)
    text = report_text(rows, head="# Title", cells=[cell, there, replace(cell, seed=2)])
    assert "1 of the 3 cells" in text
    assert "digits at 95 %, seed 1 (erk); digits at 95 %, seed 2 (all)" in text
    # One allocation of a second; three trainings of a minute, each in 90 s.
    assert "0 min for allocations and 3 min for trainings, which took 4 min" in text
    assert "Commit abc" in text


def test_a_difference_is_shown_in_points() -> None:
    assert shown_difference(-0.0125, 0.003) == "-1.25 ± 0.30"
    assert shown_difference(0.02, float("nan")) == "+2.00"
    assert shown_difference(float("nan"), float("nan")) == ""


@pytest.mark.parametrize(
    ("uniform", "verdict"), [(0.80, "| met; over"), (0.849, "by the mean"), (0.87, "**missed**")]
)
def test_what_was_asked_is_judged_by_mean_and_interval(uniform: float, verdict: str) -> None:
    text = asked(made_up(optimal=0.85, uniform=uniform))
    below = next(line for line in text.splitlines() if "not below" in line)
    assert verdict in below
    ahead = next(line for line in text.splitlines() if "ahead of `uniform`" in line)
    assert ("missed" in ahead) == (0.85 - uniform < 0.016)


def test_families_refuse_an_unknown_network() -> None:
    with pytest.raises(UserError, match="digit"):
        family_cells(FamilyOptions(networks=("digit",)))
    assert len(family_cells(FamilyOptions())) == 3 * 2 * 3 * 2


def tiny_cell(work: Path, **changes: Any) -> Cell:
    cell = Cell(network="digits", protocol="uniform", target=0.5, seed=0, nb_epochs=0.5, work=work)
    return replace(cell, **changes)


class InThisProcess:
    """In place of a pool of processes: does a job when it is handed in; `last` is the last one."""

    last = 99

    def __init__(self, *_: object, **__: object) -> None:
        self.done = 0

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, work: Any, job: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if self.done < self.last:
            future.set_result(work(job))
        else:
            future.set_exception(RuntimeError("stopped"))
        self.done += 1
        return future


@pytest.mark.long
def test_a_stopped_table_goes_on_and_trains_one_profile_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = build_task(build(TinyOptions(), seed=0))
    for module in ("table_training", "table_runs"):
        monkeypatch.setattr(f"benchmarks.{module}.load_search_task", lambda _: task)
    monkeypatch.setattr(ablation_jobs, "ProcessPoolExecutor", InThisProcess)
    trained = []
    train = table_training._train
    monkeypatch.setattr(
        table_training, "_train", lambda *a, **k: trained.append(k["seed"]) or train(*a, **k)
    )
    cell = Cell(
        network="digits", protocol="uniform", target=0.5, seed=0, nb_epochs=0.25, work=tmp_path
    )
    cells = [cell, replace(cell, seed=1)]
    monkeypatch.setattr(InThisProcess, "last", 1)
    table = tmp_path / "rows.csv"
    first = run_cells(cells, table=table, jobs=1)
    assert first["seed"].tolist() == [0]
    monkeypatch.setattr(InThisProcess, "last", 99)
    rows = run_cells(cells, table=table, jobs=1)
    assert rows["seed"].tolist() == [0, 1]
    assert trained == [0, 1]
    assert len(pd.read_csv(table)) == 2

    row = rows.iloc[0]
    weights, macs = (np.array([getattr(r, k) for r in task.layers]) for k in ("weights", "macs"))
    zeros = np.array(str(row["zeros"]).split(), dtype=int)
    assert zeros.sum() == round(0.5 * weights.sum())
    assert row["kept_macs"] == pytest.approx((macs * (1 - zeros / weights)).sum() / macs.sum())
    assert 0 < row["accuracy"] <= 1
    # Another protocol that comes to the same profile takes the training that is there.
    other = replace(cell, protocol="erk")
    shutil.copytree(tmp_path / "profiles" / cell.profile, tmp_path / "profiles" / other.profile)
    assert cell_row(other)[0]["accuracy"] == row["accuracy"]
    assert trained == [0, 1]
