"""Timing of sparse inference: pairs within one process, against the best baseline."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.paired import PairedResult

__all__ = ["Run", "Subject", "Timing"]

Run = Callable[[], object]
_CALLS = 400


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A sparse layer or network, and its dense baselines.

    Attributes:
        run: The sparse one.
        kernels: What it runs by.
        baselines: By kind (`fp32`, `int8`, ...) and name.
        latency: Kind of the baseline with single calls timed too, or none.
    """

    run: Run
    kernels: str
    baselines: dict[str, dict[str, Run]]
    latency: str = ""


class Timing:
    """Pairs of timings with this run's settings."""

    def __init__(self, *, rounds: int, threads: int) -> None:
        self.rounds, self.threads = rounds, threads
        self.clock = time.process_time if threads == 1 else time.perf_counter

    def subject(self, subject: Subject) -> dict[str, Any]:
        """A row of results: ratios over the best baseline of each kind, and over PyTorch's FP32."""
        row: dict[str, Any] = {"kernels": subject.kernels, "ms": 1e3 * self.seconds(subject.run)}
        row["load"] = os.getloadavg()[0]
        for kind, runs in subject.baselines.items():
            name, best = self.best(runs)
            row |= {**self._ratio(f"x_{kind}", best, subject.run), f"best_{kind}": name}
            if kind == subject.latency:
                row |= self._latency(best, subject.run)
        if "torch" in subject.baselines.get("fp32", {}):
            row |= self._ratio("x_torch_fp32", subject.baselines["fp32"]["torch"], subject.run)
        return row

    def ratio(self, slow: Run, fast: Run) -> PairedResult:
        """How many times longer `slow` takes, pair by pair.

        A timing is the least of the calls that fill 5 ms (three at least): a call that was
        interrupted, or found its caches emptied by another process, says nothing about the engine.
        """
        counts = {run: self._repeats(run) for run in (slow, fast)}
        ratios = []
        for number in range(self.rounds):
            order = (slow, fast) if number % 2 else (fast, slow)
            least = {run: self._least(run, counts[run]) for run in order}
            ratios.append(least[slow] / least[fast])
        low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return PairedResult(median=median, low=low, high=high, ratios=tuple(ratios))

    def seconds(self, run: Run) -> float:
        """Seconds of one call: median over the rounds."""
        count = self._repeats(run)
        return statistics.median(self._least(run, count) for _ in range(self.rounds))

    def _least(self, run: Run, count: int) -> float:
        found = float("inf")
        for _ in range(count):
            begun = self.clock()
            run()
            found = min(found, self.clock() - begun)
        return found

    def best(self, runs: dict[str, Run]) -> tuple[str, Run]:
        """The fastest of several."""
        times = {name: self.seconds(run) for name, run in runs.items()}
        name = min(times, key=times.__getitem__)
        return name, runs[name]

    def _ratio(self, column: str, slow: Run, fast: Run) -> dict[str, float]:
        found = self.ratio(slow, fast)
        return {column: found.median, f"{column}_low": found.low, f"{column}_high": found.high}

    def _latency(self, dense: Run, sparse: Run) -> dict[str, float]:
        """Milliseconds by the wall clock that half, and 99 of 100, single calls stay below."""
        times: dict[str, list[float]] = {"dense": [], "sparse": []}
        for _ in range(_CALLS):
            for name, run in (("dense", dense), ("sparse", sparse)):
                begun = time.perf_counter()
                run()
                times[name].append(1e3 * (time.perf_counter() - begun))
        found: dict[str, float] = {}
        for name, own in times.items():
            own.sort()
            found |= {f"p50_{name}": own[_CALLS // 2], f"p99_{name}": own[99 * _CALLS // 100]}
        return found

    def _repeats(self, run: Run) -> int:
        run()
        begun = self.clock()
        run()
        return min(max(3, int(5e-3 / max(self.clock() - begun, 1e-7))), 500)
