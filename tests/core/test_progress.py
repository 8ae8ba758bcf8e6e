"""Progress by a clock that the test sets: count, elapsed, left; phases and the whole command."""

from __future__ import annotations

import pytest

from ws_learner.core import (
    duration_text,
    enter_phase,
    expect_phases,
    plan_phases,
    quiet,
    say,
    track,
    warn,
)


class Clock:
    """Seconds that go on only if the test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    return clock


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_lines_say_what_is_left_once_something_is_done(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with track("work", total=10, done=2) as work:
        clock.now += 20
        work.advance(0)  # a slow start
        clock.now += 5
        work.advance(1)  # too soon for another line
        clock.now += 15
        work.advance(3)  # 4 of 8 in 40 s
        clock.now += 10
        work.advance(4, note="ready")
    assert said(capsys) == [
        "work: 2 of 10 (20%), 20 s elapsed",
        "work: 6 of 10 (60%), 40 s elapsed, about 40 s left",
        "work: 10 of 10 (100%), 50 s elapsed, ready",
    ]


@pytest.mark.parametrize("between", [2.0, 31.0, 600.0])
def test_the_time_left_is_known_however_slow_a_unit_is(
    between: float, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with track("work", total=100) as work:
        for _ in range(50):
            clock.now += between
            work.advance()
        clock.now += 20
        work.advance(0)
    last = said(capsys)[-1]  # 20 s after the 50th unit
    assert "50 of 100" in last
    assert f"about {duration_text(between * 50 - 20)} left" in last


def test_what_an_earlier_process_did_does_not_count_as_speed(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with track("work", total=1000) as work:
        clock.now += 3  # loads its checkpoint
        work.start_from(900)
        clock.now += 20
        work.advance(10)
    assert said(capsys) == ["work: 910 of 1,000 (91%), 20 s elapsed, about 3 min 0 s left"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3599.7, "1 h 0 min"),
        (30_300, "8 h 25 min"),
        (47.9 * 3600, "47 h 54 min"),
        (50 * 3600, "2 d 2 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_phases_are_numbered_and_never_go_back(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with plan_phases(["database", "search", "training"]):
        with track("layer database", total=1, phase="database") as work:
            work.advance()
        with track("search", total=1, phase="search") as work:
            work.advance()
        with track("layer database", total=1, phase="database") as work:
            work.advance()
        with track("sparse training", total=1, phase="training") as work:
            work.advance()
    with track("alone", total=1, phase="training") as work:
        work.advance()
    assert [line.partition(":")[0] for line in said(capsys)] == [
        "[1 of 3] layer database",
        "[2 of 3] search",
        "[2 of 3] layer database",
        "[3 of 3] sparse training",
        "alone",
    ]


def test_the_whole_command_is_estimated_at_its_start_from_an_earlier_run(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with plan_phases(["database", "search", "training"]):
        seconds = {"database": 60.0, "search": 600.0, "training": 3000.0}
        expect_phases(seconds, source="the run runs/one")
        assert said(capsys) == [
            "estimate: about 1 h 1 min until the command ends, by the run runs/one"
        ]
        with track("search", total=10, phase="search") as work:
            clock.now += 100  # faster than that run: 100 s for 2 of 10
            work.advance(2)
            assert said(capsys) == [
                "[2 of 3] search: 2 of 10 (20%), 1 min 40 s elapsed, about 6 min 40 s left "
                "(of the command about 56 min 40 s)"
            ]


def test_an_estimate_comes_as_soon_as_the_first_units_are_done(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with plan_phases(["database", "search", "finalists", "training"]):
        expect_phases(
            {"training": 300.0}, source="a measured step", alike={"finalists": ("search", 6)}
        )
        enter_phase("database")
        assert said(capsys) == []
        with track("search", total=20, phase="search") as work:
            clock.now += 10
            work.advance(5)  # 2 s each: 30 s of search, 12 s of finalists
            clock.now += 2
            work.advance(1)
        assert said(capsys) == [
            "estimate: about 5 min 42 s until the command ends, by a measured step"
        ]


def test_quiet_leaves_warnings(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with quiet(), track("work", total=1) as work:
        say("status")
        warn("a warning")
        work.advance()
    assert said(capsys) == ["a warning"]
