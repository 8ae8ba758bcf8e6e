"""A run that is killed at any moment, and again, ends with the same bytes.

The moments are drawn in processor time from the whole run: dense training, layer database, search,
finalists, sparse training, export and report.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.run_server import RunServer
from tests.support.small_runs import KNOWN_SPEED, RUNS, litter, results

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
CODES = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}


@pytest.fixture(scope="module")
def server() -> Iterator[RunServer]:
    with RunServer() as started:
        yield started


def killed_again_and_again(
    server: RunServer, folder: Path, *, name: str, workers: int, times: int, seed: int
) -> list[str]:
    """A run is killed that many times, at later and later moments, and then goes on to its end.

    Returns:
        What was said where a signal met the run, and where the run was by then.
    """
    words = [*RUNS[name], "--workers", str(workers)]
    whole, work = folder / "whole", folder / "work"
    whole.mkdir()
    work.mkdir()
    ended = server.run(words, whole, prepare=KNOWN_SPEED)
    assert ended.code == 0, ended.said
    draw = np.random.default_rng(seed)
    met: list[str] = []
    for place in range(times):
        number = SIGNALS[place % len(SIGNALS)]
        moment = float(draw.uniform(0.15, 1.0)) * ended.seconds
        stopped = server.run(words, work, kill=(number, moment), prepare=KNOWN_SPEED)
        assert stopped.code in (CODES[number], 0), stopped.said
        assert "Traceback" not in stopped.said
        if stopped.code:
            states = sorted(path.name for path in work.rglob("state/*") if path.name[0] != ".")
            met.append(f"{number.name} {moment:.1f} s: {' '.join(states)}")
        if stopped.code == 0 or (work / "run" / "report.md").exists():
            assert server.run(words, work, prepare=KNOWN_SPEED).code == 0
            assert results(work / "run") == results(whole / "run")
            work = folder / f"work{place}"
            work.mkdir()
    last = server.run(words, work, prepare=KNOWN_SPEED)
    assert last.code == 0, last.said
    assert results(work / "run") == results(whole / "run")
    assert [path for path in litter(work) if not path.startswith("cache")] == []
    return met


@pytest.mark.long
@pytest.mark.parametrize("name", ["zeros", "units"])
def test_a_run_that_is_killed_three_times(name: str, server: RunServer, tmp_path: Path) -> None:
    assert killed_again_and_again(server, tmp_path, name=name, workers=0, times=3, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "workers", "times"),
    [*((name, 0, 13) for name in RUNS), ("zeros", 2, 4), ("joint", 2, 4)],
)
def test_many_moments(
    name: str, workers: int, times: int, server: RunServer, tmp_path: Path
) -> None:
    met = killed_again_and_again(
        server, tmp_path, name=name, workers=workers, times=times, seed=len(name) + workers
    )
    print(f"{name}, {workers} processes: {len(met)} killed", *met, sep="\n  ")
    assert met
