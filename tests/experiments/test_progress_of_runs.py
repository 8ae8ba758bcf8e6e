"""`progress.jsonl` of small real runs: stopped, resumed, finished, failed; and `--quiet`."""

from __future__ import annotations

import re
from itertools import groupby, pairwise
from pathlib import Path

import pandas as pd
import pytest
from torch import Tensor

from experiments.run import main
from tests.support.small_runs import RUNS
from ws_learner.core import UserError
from ws_learner.report import ProgressLine, expected_seconds, read_progress
from ws_learner.training import Trainer
from ws_learner.training.callbacks import ProgressCallback

WORDS = [*RUNS["zeros"], "--workers", "0"]
PHASES = ["dense", "database", "search", "finalists", "training", "report"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is stopped in its training, goes on, and is asked for again."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("WS_DATA_DIR", str(folder / "cache"))
        patch.setenv("WS_CHECKPOINT_SECONDS", "0")
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(ProgressCallback, "on_step_end", stop_at_step_5)
            assert main(WORDS) == 130
        (folder / "before").write_bytes((folder / "run" / "progress.jsonl").read_bytes())
        assert main([*WORDS, "--quiet"]) == 0
        (folder / "after").write_bytes((folder / "run" / "progress.jsonl").read_bytes())
        assert main(WORDS) == 0
    return folder


def stop_at_step_5(self: ProgressCallback, trainer: Trainer, loss: Tensor) -> None:
    """Ctrl-C during the sparse training, which has half as many steps as the dense one."""
    self._progress.advance()
    if trainer.total_steps < 20 and trainer.step == 5:
        raise KeyboardInterrupt


def processes(lines: list[ProgressLine]) -> list[list[ProgressLine]]:
    starts = [i for i, x in enumerate(lines) if (x.event, x.state) == ("state", "running")]
    return [lines[a:b] for a, b in pairwise([*starts, len(lines)])]


@pytest.mark.long
def test_every_process_appends_its_lines_and_how_it_ended(folder: Path) -> None:
    before, after = (folder / "before").read_bytes(), (folder / "after").read_bytes()
    assert after.startswith(before)
    own = processes(read_progress(folder / "after"))
    assert [lines[-1].state for lines in own] == ["stopped", "finished"]
    assert own[0][-1].phase == "training"
    assert own[0][-1].done == 5


@pytest.mark.long
def test_a_finished_run_that_is_asked_for_again_is_left_alone(folder: Path) -> None:
    assert (folder / "run" / "progress.jsonl").read_bytes() == (folder / "after").read_bytes()


@pytest.mark.long
def test_progress_only_goes_on_and_each_work_is_complete(folder: Path) -> None:
    [dense] = folder.glob("runs/*-dense-*/progress.jsonl")
    for path in (dense, folder / "after"):
        for lines in processes(read_progress(path)):
            within = [line for line in lines if line.phase]
            assert all(line.phase == PHASES[(line.number or 0) - 1] for line in within)
            assert {line.phases for line in within} == {6}
            assert all(a.number <= b.number for a, b in pairwise(within))  # type: ignore[operator]
            assert all(a.time <= b.time for a, b in pairwise(lines))
            for _, work in groupby(within[:-1], key=lambda line: (line.phase, line.description)):
                own = list(work)
                assert own[0].event == "phase"
                assert all(a.done <= b.done for a, b in pairwise(own))
                if lines[-1].state == "finished":
                    assert own[-1].done == own[-1].total
    seen = {line.phase for line in read_progress(dense) + read_progress(folder / "after")}
    assert seen - {""} == set(PHASES)


@pytest.mark.long
def test_reward_and_accuracy_are_of_the_same_rollout(folder: Path) -> None:
    lines = [line for line in read_progress(folder / "after") if "reward" in line.values]
    assert lines
    rollouts = pd.read_csv(folder / "run" / "rollouts.csv").query("kind != 'select'")
    best = rollouts.loc[rollouts["reward"].idxmax()]
    assert lines[-1].values == pytest.approx(dict(best[["reward", "accuracy"]]), abs=1e-4)
    assert re.search(r"best reward \d\.\d{4} \(accuracy \d\.\d{4}\)", lines[-1].note)


@pytest.mark.long
def test_the_next_run_of_the_name_is_estimated_by_this_one(folder: Path) -> None:
    seconds, source = expected_seconds(folder / "run", {"training": 80.0, "search": 8.0})
    assert source == folder / "run"
    assert {"training", "search"} <= seconds.keys()
    twice, _ = expected_seconds(folder / "run", {"training": 160.0, "search": 8.0})
    assert twice["training"] == pytest.approx(2 * seconds["training"])


@pytest.mark.long
def test_a_quiet_run_prints_its_result_only(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("WS_DATA_DIR", str(folder / "cache"))
    capfd.readouterr()
    assert main([*WORDS, "--ws_prune_ratio_prtl", "uniform", "--run_dir", "other", "--quiet"]) == 0
    said = capfd.readouterr()
    assert re.fullmatch(r"With 80\.\d+% of the weights zero the test accuracy is .*\n", said.out)
    assert [line for line in said.err.splitlines() if not line.startswith("warning")] == []
    states = [line.state for line in read_progress(folder / "other" / "progress.jsonl")]
    assert states[-1] == "finished"


@pytest.mark.long
def test_the_folder_of_another_run_is_refused_before_the_dense_training(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(Trainer, "run", lambda self: pytest.fail("trained"))
    assert main([*WORDS, "--seed", "5"]) == 2  # another seed has another dense network
    said = capsys.readouterr().err
    assert "--run_dir run: holds a pruning of " in said
    assert "made with other settings" in said
    assert "seed 0 -> 5" in said
    (folder / "notes").mkdir(exist_ok=True)
    (folder / "notes" / "todo.txt").write_text("")
    assert main([*WORDS[:-4], "--run_dir", "notes", "--workers", "0", "--seed", "5"]) == 2
    assert "--run_dir notes: holds files but no run" in capsys.readouterr().err


@pytest.mark.long
def test_a_run_that_fails_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise UserError("the disk is full")

    monkeypatch.chdir(folder)
    monkeypatch.setattr("ws_learner.learner.save_model", fail)
    assert main([*WORDS, "--ws_prune_ratio_prtl", "uniform", "--run_dir", "failed"]) == 2
    assert read_progress(folder / "failed" / "progress.jsonl")[-1].state == "failed"
