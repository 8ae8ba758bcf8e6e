"""Sweeps: what they try, early stopping, resuming, one table."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.cli.command import Command
from experiments.cli.flags import parse
from experiments.cli.ray import sweep
from experiments.cli.ray.sweep import run_sweep
from experiments.cli.ray.sweep_plan import Plan, Range, read_plan
from experiments.cli.ray.sweep_trial import trial_arguments
from experiments.distributed import main
from tests.support.processes import descendants, gone
from tests.support.ray_hosts import ROOT
from ws_learner.config.cluster import ClusterConfig
from ws_learner.core.errors import UserError
from ws_learner.core.files import write_json

TINY = str(ROOT / "tests" / "support" / "tiny_experiment.py")
WORDS = [
    *(TINY, "--ws_prune_ratio", "0.8", "--ws_prune_ratio_prtl", "uniform"),
    *("--ws_init", "scratch", "--nb_epochs", "4", "--ws_mask_update_step", "1"),
    *("--ws_iter_ratio_end", "0.5"),
]
PLAN = """
space:
  ws_prune_ratio_exp: [1.0, 3.0]
  ws_iter_ratio_beg: [0.1, 0.8]
rungs: 2
"""


@given(seed=st.integers(0, 1000), low=st.floats(0.01, 1.0), width=st.floats(0.1, 9.0))
def test_draws_are_a_function_of_the_seed_and_within_bounds(
    seed: int, low: float, width: float
) -> None:
    space = {
        "ws_prune_ratio_exp": Range(min=low, max=low + width, log=True),
        "ws_iter_ratio_beg": Range(min=low, max=low + width),
        "ws_mask_update_step": [5, 25],
    }
    plan = Plan(space=space, samples=7, seed=seed)
    trials = plan.trials()
    assert trials == Plan(space=space, samples=7, seed=seed).trials()
    assert len(trials) == 7
    for trial in trials:
        for name in ("ws_prune_ratio_exp", "ws_iter_ratio_beg"):
            assert 0.999 * low <= trial[name] <= 1.001 * (low + width)
        assert trial["ws_mask_update_step"] in (5, 25)


def test_without_samples_every_combination_is_tried() -> None:
    trials = Plan(space={"a": [1, 2], "b": ["x", "y", "z"]}).trials()
    assert len(trials) == 6
    assert {(t["a"], t["b"]) for t in trials} == {(a, b) for a in (1, 2) for b in "xyz"}


def test_the_sweep_that_comes_with_the_project() -> None:
    plan = read_plan(ROOT / "experiments" / "configs" / "sweep_schedule.yaml")
    assert set(plan.space) == {
        *("ws_prune_ratio_exp", "ws_iter_ratio_beg", "ws_iter_ratio_end", "ws_mask_update_step")
    }
    assert plan.budgets() == [1, 2, 4]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("space: {ws_prune_rato: [1]}", "did you mean ws_prune_ratio"),
        ("space: {ws_prune_ratio: []}", "ws_prune_ratio: no value"),
        ("space: {prune_ratio: []}", ": prune_ratio: no value"),
        ("space: {prune_rato: [1]}", "did you mean prune_ratio"),
        ("space: {prune_ratio: [0.5], ws_prune_ratio: [0.6]}", "are one setting"),
        ("space: {ws_prune_ratio: {min: 0.5, max: 0.9}}", "how many samples"),
        ("space: {ws_prune_ratio: {min: 0.9, max: 0.5}}\nsamples: 2", "min must lie below max"),
        ("space: {ws_prune_ratio: {min: 0, max: 0.5, log: true}}\nsamples: 2", "above 0"),
        ("space: {}", "names no setting"),
        ("space: {ws_prune_ratio: [1]}\nrungs: 0", "rungs 0"),
        ("a: [", "not YAML"),
    ],
)
def test_bad_sweep_files_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, part: str
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    assert main(["-n=1", "--sweep", str(path), *WORDS]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "--sweep" in lines[0]
    assert part in lines[0]


def answer(folder: object, result: dict[str, object]) -> None:
    """What the first trial of a sweep writes."""
    write_json(Path(str(folder)) / "trial000" / "rung0.json", result)


@pytest.mark.parametrize("reason", ["the ramp ends too late", None])
def test_a_sweep_whose_trials_all_failed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str | None
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("space: {ws_prune_ratio: [0.9]}")

    def tune(*_: object, **more: object) -> None:
        if reason is not None:  # else its process died
            answer(more["folder"], {"failed": reason, "budget": 1})

    monkeypatch.setattr(sweep, "_tune", tune)
    told = rf"all 1 trials failed, the first with: {reason or 'did not run'}"
    with pytest.raises(UserError, match=told):
        run_sweep(path, [TINY], cluster=ClusterConfig(workers=1), runs=tmp_path / "runs")
    (table,) = (tmp_path / "runs").glob("*/sweep.csv")
    assert pd.read_csv(table)["state"].tolist() == ["failed"]


@pytest.mark.parametrize("swept", ["prune_ratio", "ws_prune_ratio"])
@pytest.mark.parametrize("flag", ["--prune_ratio", "--ws_prune_ratio"])
def test_a_trial_overrides_the_command_line_in_both_spellings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swept: str, flag: str
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(f"space: {{{swept}: [0.9]}}")
    tried = []

    def tune(plan: Plan, command: Command, words: list[str], **more: object) -> None:
        tried.extend(parse([*words, *trial_arguments(trial)]) for trial in plan.trials())
        answer(more["folder"], {"select_accuracy": 0.5, "budget": 1})

    monkeypatch.setattr(sweep, "_tune", tune)
    runs = tmp_path / "runs"
    assert run_sweep(path, [TINY, flag, "0.5"], cluster=ClusterConfig(workers=1), runs=runs) == 0
    assert [command.ws.ws_prune_ratio for command in tried] == [0.9]
    assert len(list(runs.iterdir())) == 1


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
@pytest.mark.slow
def test_a_sweep_killed_goes_on_and_ends_in_one_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two of the four trials begin their ramp after its end: bad settings, named as such."""
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    before = _kill_after_the_first_answer(path, tmp_path)
    assert run_sweep(path, WORDS, cluster=ClusterConfig(workers=2), runs=tmp_path / "runs") == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before

    (folder,) = (tmp_path / "runs").glob("sweep-plan-*")
    table = pd.read_csv(folder / "sweep.csv")
    assert len(table) == 4
    failed = table[table["ws_iter_ratio_beg"] == 0.8]
    assert (failed["state"] == "failed").all()
    assert failed["reason"].str.contains("--ws_iter_ratio_beg 0.8").all()
    good = table[table["ws_iter_ratio_beg"] == 0.1]
    assert set(good["state"]) <= {"complete", "stopped early"}
    assert "complete" in set(good["state"])
    assert (good["prune_ratio"] - 0.8).abs().max() < 1e-3
    assert good["select_accuracy"].between(0, 1).all()
    assert table["rungs"].is_monotonic_decreasing
    assert "select_accuracy" in capsys.readouterr().out


def _kill_after_the_first_answer(path: Path, folder: Path) -> dict[Path, int]:
    """SIGKILL a sweep's driver; return the answers it left, and when they were written."""
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.distributed", "-n=2", "--sweep", str(path), *WORDS],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=folder,
        stderr=subprocess.DEVNULL,
    )
    runs = folder / "runs"
    while process.poll() is None and not list(runs.glob("sweep-*/trial*/rung0.json")):
        time.sleep(0.02)
    started = descendants(process.pid)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert started
    assert gone(started, seconds=180)  # Ray's own processes take their time
    return {p: p.stat().st_mtime_ns for p in runs.glob("sweep-*/trial*/rung*.json")}
