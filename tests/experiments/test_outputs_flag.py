"""`--outputs`, and experiments whose metric is an error, from the command line."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments.cli.build import check_outputs
from experiments.cli.flags import parse
from experiments.cli.ray.sweep import _score, _table
from experiments.cli.ray.sweep_plan import Plan
from experiments.cli.ray.sweep_trial import run_rungs
from experiments.cli.run_identity import build_identity
from experiments.run import build, main, make_learner
from ws_learner.core.errors import UserError

ROOT = Path(__file__).parents[2]
REGRESSION = str(ROOT / "tests" / "support" / "regression_experiment.py")
TINY = str(ROOT / "tests" / "support" / "tiny_experiment.py")
SEARCH = ["--protocol", "random"]
SHORT = [
    *("--num_rollouts", "8", "--ws_nb_rescore", "3", "--ws_nb_smpls_rg", "40"),
    *("--ws_mask_update_step", "1", "--workers", "0", "--prune_ratio", "0.6"),
]


def settings(*words: str) -> dict[str, Any]:
    command = parse([TINY, *words])
    experiment = build(command)
    return build_identity(command, experiment, experiment.sparse_recipe)


def test_a_command_without_the_flag_keeps_its_name() -> None:
    assert "outputs" not in settings()
    assert settings("--outputs", "tokens") == settings() | {"outputs": "tokens"}


def test_the_flag_reaches_the_learner_and_goes_before_the_experiment(tmp_path: Path) -> None:
    command = parse([TINY, "--outputs", "labels"])
    experiment = dataclasses.replace(build(command), outputs="classes")
    assert make_learner(command, experiment, run=tmp_path).outputs == "labels"
    assert make_learner(parse([TINY]), experiment, run=tmp_path).outputs == "classes"


def test_an_experiment_that_cannot_be_compared_is_refused_until_it_says_more() -> None:
    older = dataclasses.replace(build(parse([TINY])), distils=False, searches=False)
    check: Callable[..., None] = check_outputs
    with pytest.raises(UserError, match=r"--enbl_dst: .* --outputs"):
        check(parse([TINY, "--distill", "--protocol", "uniform"]), older)
    with pytest.raises(UserError, match=r"--ws_reward_signal kl: .* --outputs"):
        check(parse([TINY, *SEARCH]), older)
    check(parse([TINY, *SEARCH, "--ws_reward_signal", "accuracy"]), older)
    check(parse([TINY, *SEARCH, "--distill", "--outputs", "classes"]), older)
    check(parse([TINY, *SEARCH, "--distill"]), dataclasses.replace(older, outputs="classes"))


def test_an_unknown_kind_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([TINY, "--outputs", "class"]) == 2
    assert "--outputs class" in capsys.readouterr().err


def test_a_plain_error_is_refused_before_the_dense_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main([REGRESSION, "--plain", "--run_dir", str(run), *SHORT]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "squared error" in last
    assert "give metric=MetricSpec(function, name=..." in last
    assert not list(tmp_path.rglob("metrics.csv"))


@pytest.mark.long
def test_an_error_from_command_to_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WS_DATA_DIR", str(tmp_path / "cache"))
    assert main([REGRESSION, "--run_dir", "run", *SHORT, *SEARCH, "--distill"]) == 0
    printed = capsys.readouterr()
    assert re.search(r"sparse MSE \(test\) +[\d.]+ K\^2", printed.out)
    assert "accuracy" not in printed.out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    (dense,) = tmp_path.glob("runs/*/summary.json")
    assert json.loads(dense.read_text())["dense_metric"] == summary["dense_metric"]
    assert main([REGRESSION, "--exec_mode", "eval", "--run_dir", "run"]) == 0
    assert f"test MSE {summary['sparse_metric']:.4f}" in capsys.readouterr().err
    changed = summary | {"sparse_metric": 1.01 * summary["sparse_metric"]}
    (tmp_path / "run" / "summary.json").write_text(json.dumps(changed))
    assert main([REGRESSION, "--exec_mode", "eval", "--run_dir", "run"]) == 2
    assert "summary.json: damaged or changed" in capsys.readouterr().err
    del changed["sha256"], changed["sha256_of"]
    (tmp_path / "run" / "summary.json").write_text(json.dumps(changed))
    assert main([REGRESSION, "--exec_mode", "eval", "--run_dir", "run"]) == 1


def test_a_trial_of_a_sweep_is_ranked_by_a_small_error(tmp_path: Path) -> None:
    words = [REGRESSION, "--protocol", "uniform", "--ws_init", "scratch", *SHORT]
    rates = [1e-6, 0.02]
    plan = Plan(space={"lrn_rate": rates}, rungs=1)
    for number, rate in enumerate(rates):
        folder = tmp_path / f"trial{number:03}"
        (result,) = run_rungs(
            words, {"lrn_rate": rate}, budgets=[1], folder=folder, allocation=None
        )
        assert _score(result) == -result["select_metric"] < 0
        assert _score({"failed": "bad settings"}) < _score(result)
    table: pd.DataFrame = _table(plan, tmp_path)
    assert table["lrn_rate"].tolist() == rates[::-1]
    assert table["select_metric"].is_monotonic_increasing
    assert "select_accuracy" not in table
