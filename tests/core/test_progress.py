"""Progress in a log: a line now and then, and no guess where nothing has been done yet."""

from __future__ import annotations

import pytest

from ws_learner.core import progress


def test_lines_say_what_is_left_once_something_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([100.0, 120.0, 125.0, 140.0, 150.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    with progress.track("work", total=10, done=2) as lines:
        lines.advance(0)  # a slow start
        lines.advance(1)  # too soon for another line
        lines.advance(3)  # 4 of 8 in 40 s
        lines.advance(4)
    assert capsys.readouterr().err.splitlines() == [
        "work:  20%",
        "work:  60%, about 40 s left",
        "work: 100%, about 0 s left",
    ]
