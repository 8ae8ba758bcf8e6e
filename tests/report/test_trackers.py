"""Trackers: what of a run arrives, once each, whatever happens to the process or the tracker."""

from __future__ import annotations

import csv
import json
import math
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.run_folders import copied
from ws_learner import UserError
from ws_learner.report import check_trackers, track_run, tracking, write_label
from ws_learner.report.trackers import following


class Recorder:
    """Keeps what it is sent; fails on request."""

    kind = "recorder"

    def __init__(self, *, fails: str = "", waits: threading.Event | None = None) -> None:
        self.fails, self.waits = fails, waits
        self.begun: list[tuple[str, tuple[str, ...], str]] = []
        self.settings: dict[str, str] = {}
        self.points: list[tuple[str, int, float]] = []
        self.files: list[str] = []
        self.ended: list[str] = []

    def begin(self, run: Path, *, name: str, tags: Sequence[str], place: str) -> str:
        self._do("begin")
        self.begun.append((name, tuple(tags), place))
        return "here"

    def parameters(self, values: Mapping[str, str]) -> None:
        self._do("parameters")
        assert not self.settings.keys() & values.keys()
        self.settings |= values

    def metrics(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        self._do("metrics")
        self.points += [(k, step, v) for step, values in rows for k, v in values.items()]

    def artifact(self, file: Path) -> None:
        self._do("artifact")
        self.files.append(file.name)

    def end(self, state: str) -> None:
        self._do("end")
        self.ended.append(state)

    def _do(self, what: str) -> None:
        if self.waits is not None:
            self.waits.wait(30)
        if self.fails == what:
            raise ConnectionError("no answer\n\x1b[31m")


def wanted(run: Path) -> dict[tuple[str, int], float]:
    """Every number of the run's tables and summary, read here."""
    found: dict[tuple[str, int], float] = {}
    with (run / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            for name in row.keys() - {"step", "phase"}:
                if row[name]:
                    found[f"{row['phase']}/{name}", int(row["step"])] = float(row[name])
    best = -math.inf
    with (run / "rollouts.csv").open() as file:
        for place, row in enumerate(csv.DictReader(file)):
            for name in ("reward", "accuracy", "divergence", "overall_ratio", "seconds"):
                if row.get(name):
                    found[f"search/{name}", place] = float(row[name])
            best = max(best, float(row["reward"]))
            found["search/best_reward", place] = best
    for name, value in json.loads((run / "summary.json").read_text()).items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[f"result/{name}", 0] = value
    return found


def test_everything_arrives_once(tmp_path: Path) -> None:
    run, tracker = copied(tmp_path, "one"), Recorder()
    write_label(run, name="first", tags=["paper"])
    for _ in range(3):
        track_run(run, [tracker])
    assert {(name, step): value for name, step, value in tracker.points} == wanted(run)
    assert len(tracker.points) == len(wanted(run))
    identity = json.loads((run / "identity.json").read_text())
    assert tracker.settings["seed"] == str(identity["seed"])
    assert tracker.settings["recipe.nb_epochs"] == str(identity["recipe"]["nb_epochs"])
    assert sorted(tracker.files) == sorted(set(tracker.files))
    assert {"report.md", "ratios.csv", "summary.json"} <= set(tracker.files)
    assert tracker.begun[0] == ("first", ("paper",), "")
    assert tracker.ended == ["finished"] * 3


def test_a_resumed_run_is_not_sent_twice(tmp_path: Path) -> None:
    run, tracker = copied(tmp_path, "one"), Recorder()
    whole = {name: (run / name).read_text() for name in ("metrics.csv", "rollouts.csv")}
    summary = (run / "summary.json").read_bytes()
    (run / "summary.json").unlink()

    def cut(lines: int) -> None:
        for name, text in whole.items():
            (run / name).write_text("".join(text.splitlines(keepends=True)[:lines]))

    cut(7)
    with pytest.raises(KeyboardInterrupt), tracking(run, [tracker]):
        raise KeyboardInterrupt
    cut(4)  # back to its checkpoint
    with tracking(run, [tracker]):
        for name, text in whole.items():
            (run / name).write_text(text)
        (run / "summary.json").write_bytes(summary)
    assert tracker.ended == ["stopped", "finished"]
    assert len({(name, step) for name, step, _ in tracker.points}) == len(tracker.points)
    assert {(name, step): value for name, step, value in tracker.points} == wanted(run)


@pytest.mark.parametrize("what", ["begin", "parameters", "metrics", "artifact", "end"])
def test_a_failing_tracker_is_said_once_and_sent_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    run, tracker, other = copied(tmp_path, "one"), Recorder(fails=what), Recorder()
    other.kind = "other"
    with tracking(run, [tracker, other]):
        done = True
    assert done
    lines = [line for line in capsys.readouterr().err.splitlines() if "tracker" in line]
    assert len(lines) == 1
    assert "no answer" in lines[0]
    assert lines[0].isprintable()
    assert other.ended == ["finished"]
    tracker.fails = ""
    track_run(run, [tracker])
    assert {(name, step): value for name, step, value in tracker.points} == wanted(run)
    assert len(tracker.points) == len(wanted(run))


def test_a_tracker_that_hangs_does_not_hold_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_SECONDS_AT_END", 0.2)
    hanging = threading.Event()
    with tracking(copied(tmp_path, "one"), [Recorder(waits=hanging)]):
        pass
    assert "does not answer within" in capsys.readouterr().err
    hanging.set()


def test_a_damaged_note_sends_everything_again(tmp_path: Path) -> None:
    run, tracker = copied(tmp_path, "one"), Recorder()
    (run / "tracking.json").write_text('{"recorder": {"place": "here", "steps": "x"}}')
    track_run(run, [tracker])
    assert len(tracker.points) == len(wanted(run))


def test_trackers_that_there_are_not_are_refused() -> None:
    with pytest.raises(UserError, match="did you mean mlflow"):
        check_trackers(["mlfow"])
    with pytest.raises(UserError, match="give a list"):
        check_trackers("mlflow")
    with pytest.raises(UserError, match="has no `kind`"):
        check_trackers([object()])  # type: ignore[list-item]


def events(folder: Path) -> Any:
    accumulators = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="tensorboard is not installed: the extra `tensorboard`",
    )
    found = accumulators.EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    return found.Reload()


def test_tensorboard_reads_what_the_run_wrote(tmp_path: Path) -> None:
    run = copied(tmp_path, "one")
    write_label(run, name="a_b *c*")
    summary = (run / "summary.json").read_bytes()
    (run / "summary.json").unlink()
    track_run(run, ["tensorboard"])  # a first process, then another
    (run / "summary.json").write_bytes(summary)
    track_run(run, ["tensorboard"])
    track_run(run, ["tensorboard"])
    found = events(run / "tensorboard")
    points = [(tag, e.step, e.value) for tag in found.Tags()["scalars"] for e in found.Scalars(tag)]
    assert len(points) == len(wanted(run))
    assert {(tag, step): value for tag, step, value in points} == pytest.approx(
        wanted(run), rel=1e-6
    )
    texts = {tag for tag in found.Tags()["tensors"]}
    assert {"run/text_summary", "settings/text_summary", "report.md/text_summary"} <= texts


@pytest.mark.long
@pytest.mark.filterwarnings("default")  # its own
def test_mlflow_has_what_the_run_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sqlalchemy", reason="needs mlflow with its database: pip install mlflow")
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed: the extra `mlflow`")
    database = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    monkeypatch.setitem(os.environ, "MLFLOW_EXPERIMENT_NAME", "trial")
    monkeypatch.chdir(tmp_path)
    run = copied(tmp_path, "one")
    write_label(run, name="first", tags=["paper"])
    summary = (run / "summary.json").read_bytes()
    (run / "summary.json").unlink()
    track_run(run, ["mlflow"])
    (run / "summary.json").write_bytes(summary)
    track_run(run, ["mlflow"])
    client = mlflow.MlflowClient(database)
    (entry,) = client.search_runs([client.get_experiment_by_name("trial").experiment_id])
    assert (entry.info.run_name, entry.info.status) == ("first", "FINISHED")
    assert entry.data.tags["tag.paper"] == "1"
    identity = json.loads((run / "identity.json").read_text())
    assert entry.data.params["recipe.nb_epochs"] == str(identity["recipe"]["nb_epochs"])
    points = [
        (name, metric.step, metric.value)
        for name in entry.data.metrics
        for metric in client.get_metric_history(entry.info.run_id, name)
    ]
    assert len(points) == len(wanted(run))
    assert {(name, step): value for name, step, value in points} == pytest.approx(wanted(run))
    assert "report.md" in {file.path for file in client.list_artifacts(entry.info.run_id)}
    client.delete_run(entry.info.run_id)
    track_run(run, ["mlflow"])  # gone there: sent again, as another run
    (again,) = client.search_runs([client.get_experiment_by_name("trial").experiment_id])
    assert len(again.data.metrics) == len(entry.data.metrics)


@pytest.mark.long
def test_python_calls_take_trackers(tmp_path: Path) -> None:
    import torch
    from torch import nn
    from torch.utils.data import TensorDataset

    from ws_learner import prune

    torch.manual_seed(0)
    inputs = torch.randn(240, 8)
    data = TensorDataset(inputs, (inputs[:, 0] > 0).long())
    model, tracker = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2)), Recorder()
    result = prune(
        model,
        data,
        0.5,
        config={"ws_prune_ratio_prtl": "uniform"},
        epochs=1,
        run_dir=tmp_path / "run",
        track=[tracker],
    )
    points = {(name, step): value for name, step, value in tracker.points}
    assert len(points) == len(tracker.points)
    assert points["result/sparse_accuracy", 0] == result.summary["sparse_accuracy"]
    assert {name for name, _ in points if name.startswith("sparse/")}
    assert "report.md" in tracker.files
    with pytest.raises(UserError, match="no such tracker"):
        prune(model, data, 0.5, track=["wandb"])
