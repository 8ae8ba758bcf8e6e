"""Rows of a list of runs: numbers of the run's own files, states, damage, runs being written."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.hostile_files import any_bytes, damaged, forged
from tests.support.run_folders import REAL, copied, said
from ws_learner.core import RunDir, UserError, load_state, write_json
from ws_learner.report import list_runs, read_row, write_label

SUMMARY = json.loads((REAL / "finished" / "summary.json").read_text())


def test_a_finished_runs_row_says_what_its_files_hold(tmp_path: Path) -> None:
    run = copied(tmp_path, "one")
    row = read_row(run)
    tensors = load_state(run / "model.safetensors")
    assert row.size_bytes is not None
    assert row.size_bytes > sum(t.numel() * t.element_size() for t in tensors.values())
    assert (row.id, row.state, row.progress) == ("one", "finished", 1.0)
    assert (row.experiment, row.method, row.protocol) == ("tiny", "gradual", "optimal")
    assert (row.dense, row.sparse, row.examples) == (150 / 200, 129 / 200, 200)
    assert row.change == pytest.approx(-21 / 200)
    assert row.target == "0.8"
    assert row.changed == (run / "summary.json").stat().st_mtime


def test_other_metrics_and_budgets_are_named(tmp_path: Path) -> None:
    parts = [{"budget": "macs=0.3"}, {"budget": "bytes=2000000B"}]
    run = copied(
        tmp_path,
        *("one",),
        metric="MSE",
        metric_unit="K^2",
        higher_is_better=False,
        dense_metric=1.5,
        sparse_metric=2.25,
        budget_parts=parts,
    )
    row = read_row(run)
    assert (row.metric, row.unit, row.higher_is_better) == ("MSE", "K^2", False)
    assert (row.dense, row.sparse, row.change) == (1.5, 2.25, 0.75)
    assert row.target == "macs=0.3,bytes=2000000B"


@pytest.mark.parametrize(("of", "phase"), [("searching", "search"), ("training", "training")])
def test_a_killed_run_is_stopped_and_says_where(tmp_path: Path, of: str, phase: str) -> None:
    row = read_row(copied(tmp_path, "one", of=of))
    assert (row.state, row.phase, row.progress) == ("stopped", phase, None)
    assert (row.target, row.method, row.sparse) == ("0.8", "gradual", None)


def test_running_needs_the_lock(tmp_path: Path) -> None:
    run = copied(tmp_path, "one", of="searching")
    said(run, number=3, phases=6, done=12.0, total=64.0)
    with RunDir(run).locked():
        row = read_row(run)
        assert (row.state, row.phase) == ("running", "search")
        assert row.progress == pytest.approx((2 + 12 / 64) / 6)
    assert read_row(run).state == "stopped"  # the process is gone; its last word stays
    said(run, state="failed", note="out of memory")
    assert (read_row(run).state, read_row(run).reason) == ("failed", "out of memory")
    with (run / "progress.jsonl").open("a") as file:
        file.write('{"state": "running", "num')  # half a line
    assert read_row(run).state == "failed"


def test_listing_does_not_keep_a_run_from_starting(tmp_path: Path) -> None:
    run, stop = copied(tmp_path, "one", of="searching"), threading.Event()

    def look() -> None:
        while not stop.is_set():
            list_runs(tmp_path)

    watchers = [threading.Thread(target=look) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(30):
            with RunDir(run).locked():
                assert read_row(run).state == "running"
    finally:
        stop.set()
        for watcher in watchers:
            watcher.join()


def test_a_run_is_listed_while_it_is_written(tmp_path: Path) -> None:
    run, wrong = tmp_path / "runs" / "one", list[str]()
    states = {"running", "finished"}

    def write() -> None:
        with RunDir(run).locked():
            RunDir(run).claim({}, {"experiment": "tiny", "ws_prune_ratio": 0.8})
            for step in range(100):
                said(run, number=1, phases=1, done=step, total=100.0)
            RunDir(run).finish(SUMMARY)

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        wrong += [row.state for row in list_runs(run.parent) if row.state not in states]
    writer.join()
    assert not wrong
    assert [row.state for row in list_runs(run.parent)] == ["finished"]


def test_newest_first_and_only_runs(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "middle", "old")):
        os.utime(copied(tmp_path, name) / "identity.json", (1e9 - age, 1e9 - age))
    (tmp_path / "no run").mkdir()
    (tmp_path / "no run" / "notes.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    assert [row.id for row in list_runs(tmp_path)] == ["new", "middle", "old"]
    assert list_runs(tmp_path / "missing") == []


def test_a_sweep_and_a_dense_training_are_told_apart(tmp_path: Path) -> None:
    dense = copied(tmp_path, "dense", learner="full-prec")
    write_json(tmp_path / "sweep" / "identity.json", {"plan": {}, "settings": {}})
    assert (read_row(dense).kind, read_row(tmp_path / "sweep").state) == ("dense", "stopped")
    (tmp_path / "sweep" / "sweep.csv").write_text("trial\n")
    row = read_row(tmp_path / "sweep")
    assert (row.kind, row.state) == ("sweep", "finished")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = {
    "no text": lambda path: path.write_bytes(b"\xff\x00"),
    "no object": lambda path: path.write_text("[]"),
    "deep": lambda path: path.write_text("[" * 100_000),
    "huge number": lambda path: path.write_text('{"a": ' + "9" * 5000 + "}"),
    "large": lambda path: os.truncate(path, 9 << 20),
    "pipe": _pipe,
    "folder": _folder,
}


@pytest.mark.parametrize("name", ["summary.json", "identity.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_runs_are_listed_with_a_reason(tmp_path: Path, name: str, damage: str) -> None:
    copied(tmp_path, "whole")
    of = "finished" if name == "summary.json" else "searching"
    DAMAGES[damage](copied(tmp_path, "bad", of=of) / name)
    rows = {row.id: row for row in list_runs(tmp_path)}
    assert (rows["whole"].state, rows["bad"].state) == ("finished", "unknown")
    assert name in rows["bad"].reason


def test_a_changed_summary_is_noticed(tmp_path: Path) -> None:
    run = copied(tmp_path, "one", sparse_accuracy=0.7)
    assert read_row(run).sparse == 0.7
    text = (run / "summary.json").read_text()
    (run / "summary.json").write_text(text.replace("0.7,", "0.9,"))
    assert (read_row(run).state, read_row(run).sparse) == ("unknown", None)


def _edit(path: Path) -> None:
    path.write_text(path.read_text() + " ")


@pytest.mark.parametrize("name", ["ratios.csv", "rollouts.csv", "metrics.csv"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [(_edit, "SHA-256"), (Path.unlink, "is missing"), (_folder, "is no file")],
)
def test_a_finished_run_with_an_altered_result_stays_listed_with_a_reason(
    tmp_path: Path, name: str, damage: Callable[[Path], None], said: str
) -> None:
    run = copied(tmp_path, "one")
    RunDir(run).finish({"sparse_accuracy": 0.7})
    assert read_row(run).reason == ""
    damage(run / name)
    row = read_row(run)
    assert (row.state, row.sparse) == ("finished", 0.7)
    assert row.reason.startswith(f"{name}: ")
    assert said in row.reason
    assert str(tmp_path) not in row.reason


def test_a_list_looks_for_weights_but_does_not_read_them(tmp_path: Path) -> None:
    run = copied(tmp_path, "one")
    (run / "model.safetensors").write_bytes(bytes(2 << 20))
    RunDir(run).finish({})
    (run / "model.safetensors").write_bytes(b"1" + bytes((2 << 20) - 1))
    assert read_row(run).reason == ""
    (run / "model.safetensors").unlink()
    assert read_row(run).reason.startswith("model.safetensors: is missing")


@settings(max_examples=25)
@given(data=st.data())
def test_files_of_any_content_give_a_row(data: st.DataObject, tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    run = tmp_path_factory.mktemp("any") / "run"
    run.mkdir()
    text = json.dumps(SUMMARY).encode()
    for name in ("summary.json", "identity.json", "progress.jsonl", "label.json"):
        made = data.draw(
            st.one_of(
                st.none(),
                any_bytes(),
                damaged(text),
                forged(SUMMARY).map(lambda value: json.dumps(value).encode()),
            )
        )
        if made is not None:
            (run / name).write_bytes(made)
    row = read_row(run)
    shown = (row.name, *row.tags, row.experiment, row.target, row.pattern, row.reason, row.phase)
    assert all(one.isprintable() and len(one) <= 200 for one in shown)
    assert row.progress is None or 0 <= row.progress <= 1
    assert (row.change is None) == (row.dense is None or row.sparse is None)


def test_a_label_is_no_part_of_the_run(tmp_path: Path) -> None:
    run = copied(tmp_path, "one")
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    write_label(run, name="first try", tags=["paper", "paper", "v2"])
    write_label(run, tags=["gpu"], without=["v2"])
    row = read_row(run)
    assert (row.name, row.tags) == ("first try", ("paper", "gpu"))
    assert {p.name: p.read_bytes() for p in run.iterdir() if p.name != "label.json"} == before
    RunDir(run).claim({}, json.loads(before["identity.json"]))  # still the same run
    assert write_label(run, name="").name == ""


@pytest.mark.parametrize(
    "name", ["last", "a/b", "-x", ".x", "~x", " x", "x\n", "\u202ex", "x" * 61, "\x1b[31m"]
)
def test_names_that_would_mislead_are_refused(tmp_path: Path, name: str) -> None:
    run = copied(tmp_path, "one")
    with pytest.raises(UserError, match="`name`"):
        write_label(run, name=name)
    assert not (run / "label.json").exists()


@pytest.mark.parametrize(
    "tags", [["a,b"], [""], ["x" * 41], ["a\tb"], [f"t{i}" for i in range(21)]]
)
def test_tags_that_would_mislead_are_refused(tmp_path: Path, tags: list[str]) -> None:
    with pytest.raises(UserError, match="`tag`"):
        write_label(copied(tmp_path, "one"), tags=tags)


@pytest.mark.parametrize("name", ["\x1b[31mred", "x" * 999, "a/b", "last", 3, None, ["a"]])
def test_of_a_label_from_elsewhere_only_what_fits_counts(tmp_path: Path, name: object) -> None:
    run = copied(tmp_path, "one")
    tags = ["\n", 3, "y" * 99, "kept", "a,b", "kept", None]
    write_json(run / "label.json", {"name": name, "tags": tags})
    row = read_row(run)
    assert (row.name, row.tags) == ("", ("kept",))
    assert write_label(run, tags=["more"]).tags == ("kept", "more")
