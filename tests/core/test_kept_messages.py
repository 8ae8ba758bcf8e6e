"""What a command says is kept with its run: earlier lines first, by this process only."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import pytest

from ws_learner.core import MESSAGES_FILE, UserError, keep_messages, remember_messages, say


def kept(folder: Path) -> list[tuple[str, str]]:
    lines = (folder / MESSAGES_FILE).read_text().splitlines()
    return [(entry["level"], entry["text"]) for entry in map(json.loads, lines)]


def test_lines_from_before_the_folder_come_first(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    say("before the command")
    with remember_messages():
        say("early")
        with remember_messages(), keep_messages(first):
            say("of the first run")
            with keep_messages(first):
                say("still")
        say("between")
        with keep_messages(second):
            say("of the second run\nin two lines")
        say("late")
    said = [("status", text) for text in ("early", "of the first run", "still")]
    assert kept(first) == said
    texts = [text for _, text in kept(second)]
    assert texts == ["early", "between", r"of the second run\nin two lines"]


def test_warnings_of_python_are_kept_and_shown(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="stays dense"), keep_messages(tmp_path):
        warnings.warn("fc stays dense", stacklevel=1)
    assert kept(tmp_path) == [("warning", "UserWarning: fc stays dense")]
    shown = warnings.showwarning
    with remember_messages():
        assert warnings.showwarning is not shown
    assert warnings.showwarning is shown


def test_a_resumed_run_appends_whole_lines(tmp_path: Path) -> None:
    (tmp_path / MESSAGES_FILE).write_text('{"level": "status", "text": "a"}\n{"level": "sta')
    with keep_messages(tmp_path):
        say("b")
    whole, half, last = (tmp_path / MESSAGES_FILE).read_text().splitlines()
    assert json.loads(whole)["text"] == "a"
    assert half == '{"level": "sta'
    assert json.loads(last)["text"] == "b"


def test_a_forked_worker_keeps_nothing(tmp_path: Path) -> None:
    with keep_messages(tmp_path):
        say("driver")
        child = os.fork()
        if child == 0:
            say("worker")
            os._exit(0)
        os.waitpid(child, 0)
    assert [text for _, text in kept(tmp_path)] == ["driver"]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / MESSAGES_FILE).mkdir()
    refused = pytest.raises(UserError, match="free space or choose another folder")
    with refused, keep_messages(tmp_path):
        say("x")
