"""The reader of `progress.jsonl`: valid lines only, whatever the file holds."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from ws_learner.report import last_progress, read_progress

LINE = {
    **{"time": 1796072345.1, "event": "progress", "state": "running", "phase": "search"},
    **{"number": 3, "phases": 6, "description": "search", "done": 12.0, "total": 64.0},
    **{"elapsed_s": 34.5, "left_s": 100.2, "command_left_s": None, "note": "best reward 0.91"},
    "values": {"reward": 0.91, "accuracy": 0.88},
}


def written(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_a_line_is_read_as_it_was_written(tmp_path: Path) -> None:
    [line] = read_progress(written(tmp_path / "progress.jsonl", json.dumps(LINE)))
    assert asdict(line) == LINE


@pytest.mark.parametrize(
    "change",
    [
        *({"time": None}, {"time": "1"}, {"time": True}, {"time": float("nan")}),
        *({"event": "other"}, {"state": 1}, {"phase": None}, {"number": 0}, {"number": 1.5}),
        *({"done": 1e300}, {"left_s": "soon"}, {"values": []}, {"values": {"a": "b"}}),
        {"values": {str(number): 1 for number in range(1000)}},
    ],
)
def test_other_lines_are_dropped(change: dict[str, object], tmp_path: Path) -> None:
    good = json.dumps(LINE)
    lines = (good, json.dumps(LINE | change), "", "[]", "{", "[" * 100_000, good)
    assert len(read_progress(written(tmp_path / "progress.jsonl", *lines))) == 2


def test_half_a_line_is_dropped_wherever_it_is_cut(tmp_path: Path) -> None:
    path, text = tmp_path / "progress.jsonl", json.dumps(LINE)
    for cut in range(len(text)):
        path.write_text(f"{text}\n{text[:cut]}")
        assert len(read_progress(path)) == 1
        assert last_progress(path) == read_progress(path)[0]


def test_texts_are_shortened_and_hold_no_control_characters(tmp_path: Path) -> None:
    line = LINE | {"note": "\x1b[2J" + "x" * 5000, "values": {"\n": 1.0}}
    [read] = read_progress(written(tmp_path / "progress.jsonl", json.dumps(line)))
    assert len(read.note) < 400
    assert read.note.isprintable()
    assert list(read.values) == ["\\n"]


def test_the_last_line_comes_from_the_end_of_a_large_file(tmp_path: Path) -> None:
    lines = [json.dumps(LINE | {"done": float(number)}) for number in range(5000)]
    path = written(tmp_path / "progress.jsonl", *lines)
    assert path.stat().st_size > 1 << 20
    last = last_progress(path)
    assert last is not None
    assert last.done == 4999
    assert last == read_progress(path)[-1]


def test_no_file_is_no_progress(tmp_path: Path) -> None:
    assert last_progress(tmp_path / "none") is None
    assert read_progress(tmp_path) == []
