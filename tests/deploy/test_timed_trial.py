"""Trials by a clock that the test sets: the least time decides, and luck does not among equals."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch

from tests.support.sparse_layers import block_matrix
from ws_learner.deploy.runtime import autotune
from ws_learner.deploy.runtime.autotune import fastest

np = pytest.importorskip("numpy")


class Clock:
    """Stands still but for the work that is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(autotune.time, "thread_time", lambda: self.now)
        monkeypatch.setattr(autotune.time, "perf_counter", lambda: pytest.fail("wall time"))

    def work(self, seconds: Callable[[], float]) -> Callable[[], None]:
        def run() -> None:
            self.now += seconds()

        return run


class Native:
    """A run with a loop of its own."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock, self._seconds = clock, seconds
        self.calls = 0

    def __call__(self) -> None:
        raise AssertionError("timed through Python")

    def repeat(self, times: int) -> None:
        self.calls += 1
        self._clock.now += times * self._seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_the_least_time_decides_however_often_runs_are_disturbed(clock: Clock) -> None:
    winners = set()
    for seed in range(20):
        draw = random.Random(seed)

        def disturbed(seconds: float, draw: random.Random = draw) -> Callable[[], float]:
            # Three of four readings are spoilt.
            return lambda: seconds * draw.choice([1, 1.3, 1.7, 3])

        runs = {
            name: clock.work(disturbed(seconds))
            for name, seconds in (("base", 9e-4), ("slow", 6e-4), ("fast", 4e-4))
        }
        winners.add(fastest(runs, "base").winner)
    assert winners == {"fast"}


@pytest.mark.parametrize("lucky", range(3))
def test_of_equals_the_first_wins(clock: Clock, lucky: int) -> None:
    seconds = [1.0e-4, 1.0e-4, 1.0e-4]
    seconds[lucky] *= 0.96  # within the margin
    runs = {n: clock.work(lambda s=s: s) for n, s in zip("abc", seconds, strict=True)}  # type: ignore[misc]
    found = fastest({"base": clock.work(lambda: 3e-4)} | runs, "base")
    assert found.winner == "a"
    assert found.speedup == pytest.approx(3e-4 / seconds[0])


@pytest.mark.parametrize(("gain", "winner"), [(1.04, "base"), (1.06, "other")])
def test_the_base_stays_within_five_percent(clock: Clock, gain: float, winner: str) -> None:
    runs = {"base": clock.work(lambda: 1e-4 * gain), "other": clock.work(lambda: 1e-4)}
    found = fastest(runs, "base")
    assert found.winner == winner
    assert found.speedup == pytest.approx(gain if winner == "other" else 1.0)


def test_python_around_the_work_counts_for_none(clock: Clock) -> None:
    """5 us of work called in 4 us of Python, against 6 us in a native loop: the first is faster."""
    runs = {
        "base": clock.work(lambda: 40e-6 + 4e-6),
        "native": Native(clock, 6e-6),
        "engine": clock.work(lambda: 5e-6 + 4e-6),
    }
    idle = clock.work(lambda: 4e-6)
    found = fastest(runs, "base", idle=idle)
    assert found.seconds == pytest.approx({"base": 40e-6, "native": 6e-6, "engine": 5e-6})
    assert found.winner == "engine"
    assert fastest(runs, "base").winner == "native"  # which is what Python's time would make of it


def test_what_reaching_kernels_costs_is_added_to_all_of_them(clock: Clock) -> None:
    runs = {"base": clock.work(lambda: 6e-6), "a": Native(clock, 3e-6), "b": Native(clock, 1e-6)}
    idle, reach = clock.work(lambda: 4e-6), clock.work(lambda: 10e-6)
    found = fastest(runs, "base", idle=idle, reach=reach)
    assert found.seconds == pytest.approx({"base": 2e-6, "a": 9e-6, "b": 7e-6})
    assert found.winner == "base"


def test_nothing_may_be_refused(clock: Clock) -> None:
    def refuse() -> None:
        raise RuntimeError("an empty batch")

    runs = {"base": clock.work(lambda: 2e-4), "other": clock.work(lambda: 1e-4)}
    assert fastest(runs, "base", idle=refuse).speedup == pytest.approx(2.0)


def test_who_is_far_behind_is_not_run_to_the_end(clock: Clock) -> None:
    last, first = Native(clock, 1e-2), Native(clock, 1e-4)
    fastest({"base": last, "fast": first}, "base")
    assert last.calls < 8 < 20 < first.calls


def test_a_kernel_in_its_native_loop_is_the_kernel() -> None:
    from ws_learner.deploy.runtime.candidates import candidates
    from ws_learner.deploy.runtime.codegen.cpu import usable_isas
    from ws_learner.deploy.runtime.modules import LayerData

    if not usable_isas():
        pytest.skip("no generated kernels here")
    weight = block_matrix(np.random.default_rng(0), (40, 24), (4, 1), 0.4)
    data = LayerData(weight=weight, bias=None)
    kernel = data.kernel(candidates(weight, tokens=9)[-1])
    x = torch.randn(9, 24)
    for threads in (1, 2):
        timed = kernel.timed(x, threads=threads)
        # Another kernel's larger memory takes the place of this one's in between.
        wide = LayerData(weight=np.ones((16, 9000), np.float32), bias=None)
        wide.kernel(candidates(wide.weight, tokens=64)[-1]).tokens(torch.randn(64, 9000))
        timed.repeat(3)
        assert torch.equal(timed.outputs, kernel.tokens(x))
