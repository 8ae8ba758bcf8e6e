"""What the verb `policy` prints and writes is what the policy emits; `--policy` trains with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.cli.console import main
from experiments.run import main as run_main
from tests.support.policy_runs import allocator, table, zeros_of
from ws_learner.report.ratios_file import read_ratios
from ws_learner.search.policy_view import PolicyView

ROOT = Path(__file__).parents[2]
TINY = str(ROOT / "tests" / "support" / "tiny_experiment.py")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WS_DATA_DIR", str(tmp_path_factory.mktemp("cache")))
        folder = tmp_path_factory.mktemp("runs") / "one"
        zeros_of(folder, ws_nb_rlouts=8)
        yield folder


def test_the_table_has_what_is_emitted_and_the_measured_divergences(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["policy", str(run), "--targets", "0.8,0.9"]) == 0
    shown = capsys.readouterr()
    sheet = pd.read_csv(run / "policy.csv")
    view = PolicyView(run)
    sizes = np.array([row.weights for row in table()])
    assert sheet["layer"].tolist() == [row.name for row in table()]
    for target in (0.8, 0.9):
        one = view.emit(target)
        np.testing.assert_allclose(sheet[f"density/{target}"], 1 - one.zeros / sizes)
        kept = (sheet[f"density/{target}"] * sizes).sum()
        assert kept == pytest.approx(sizes.sum() - round(target * sizes.sum()))
        assert f"{target}: by {one.supplier}, predicted reward {one.predicted_reward:.4f}" in (
            shown.err
        )
    assert "0.8: " in shown.err
    assert shown.err.count("it was not trained for this target") == 1
    densities, own = allocator(run / "other").evaluator().own_divergences() or (None, None)
    assert densities is not None
    assert own is not None
    # 0.1 is one of the densities where divergences are measured, at the nearest whole count: in
    # layers of a few hundred weights a percent or two beside it.
    (place,) = np.flatnonzero(np.isclose(densities, 0.1))
    falling = np.maximum.accumulate(own[:, ::-1], axis=1)[:, ::-1]
    np.testing.assert_allclose(sheet["own_divergence_at_0.1"], falling[:, place], rtol=0.15)
    assert all(row.name in shown.out for row in table())
    assert (run / "figures" / "policy.svg").read_text().count("own divergence") >= 1


def test_a_written_profile_is_read_back_exactly(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "ratios.csv"
    assert main(["policy", str(run), "--prune_ratio", "0.93", "--out", str(out)]) == 0
    zeros = read_ratios(out, table())
    assert zeros.tolist() == PolicyView(run).emit(0.93).zeros.tolist()
    assert zeros.sum() == round(0.93 * sum(row.weights for row in table()))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--targets", "0.5,x"], "--targets 0.5,x: must be prune ratios between 0 and 1"),
        (["--targets", "0.5,1.5"], "--targets 0.5,1.5: must be prune ratios between 0 and 1"),
        (["--prune_ratio", "0.9"], "--prune_ratio and --out need each other"),
        (["--prune_ratio", "1.2", "--out", "r.csv"], "--prune_ratio 1.2: must lie between"),
        (["--prune_ratio", "0.999", "--out", "r.csv"], "--prune_ratio 0.999: the layers' bounds"),
    ],
)
def test_bad_words_are_refused(
    run: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["policy", str(run), *words]) == 2
    assert says in capsys.readouterr().err


def test_a_folder_without_a_policy_is_refused_with_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["policy", str(tmp_path)]) == 2
    shown = capsys.readouterr().err
    assert "policy.safetensors: no such file; give the folder of a run that searched" in shown
    for flag in ("--policy", "--from_policy"):
        assert run_main([TINY, flag, str(tmp_path)], runs=tmp_path / "runs") == 2
        assert f"{flag} {tmp_path}: no policy there; give the folder" in capsys.readouterr().err


def test_a_policy_of_another_network_is_refused_before_the_dense_network_is_trained(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for flag in ("--policy", "--from_policy"):
        assert run_main([TINY, flag, str(run)], runs=tmp_path) == 2
        shown = capsys.readouterr().err
        assert f"{flag} {run}: is for another layer table: row 1 is 0.weight 8x3x3x3" in shown
        assert "conv1.weight 8x3x3x3 here" in shown
    assert not any(tmp_path.iterdir())


@pytest.mark.long
def test_a_run_with_a_policy_says_who_gave_its_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WS_DATA_DIR", str(tmp_path / "cache"))
    few = [TINY, "--nb_epochs", "1", "--workers", "0"]
    search = ["--prune_ratio", "0.9", "--num_rollouts", "8", "--goals", "0.6:0.95"]
    first, second = tmp_path / "first", tmp_path / "second"
    assert run_main([*few, *search, "--run_dir", str(first)], runs=tmp_path) == 0
    summary = json.loads((first / "summary.json").read_text())
    assert (summary["rollouts"], summary["frontier_rollouts"]) == (8, 10)
    assert 0 <= summary["critic"]["within_1"] <= summary["critic"]["within_2"] <= 1
    report = (first / "report.md").read_text()
    assert "## One search, any target" in report
    assert "(figures/frontier.svg)" in report
    assert f"is {summary['critic']['rmse']:.3f}" in report
    words = [*few, "--prune_ratio", "0.8", "--policy", str(first), "--run_dir", str(second)]
    assert run_main(words, runs=tmp_path) == 0
    summary = json.loads((second / "summary.json").read_text())
    assert (summary["protocol"], summary["rollouts"]) == ("policy", 0)
    by = summary["profile_by"]
    assert by in ("agent", "critic", "rescaled", "prior")
    assert f"{by}, predicted reward {summary['predicted_reward']:.4f}" in (
        (second / "report.md").read_text()
    )
    assert not (second / "rollouts.csv").exists()
    capsys.readouterr()
    assert run_main(words, runs=tmp_path) == 0  # the same file by another name: the same run
    again = [*words[:-3], str(first / "policy.safetensors"), *words[-2:]]
    assert run_main(again, runs=tmp_path) == 0
    assert capsys.readouterr().err.count(f"{second} (finished)") == 2
