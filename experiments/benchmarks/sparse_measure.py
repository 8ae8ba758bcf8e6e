"""Timings of sparse inference: pairs within one process, and the best of several rivals."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from experiments.benchmarks.paired import PairedResult, paired

__all__ = ["Measure", "Run", "Subject"]

Run = Callable[[], object]
_CALLS = 400


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Something sparse and what it is held against.

    Attributes:
        run: The sparse one.
        kernels: What it runs by.
        rivals: By kind (`fp32`, `int8`, ...) and name.
        latency: Kind of the rival whose single calls are timed too, or none.
    """

    run: Run
    kernels: str
    rivals: dict[str, dict[str, Run]]
    latency: str = ""


class Measure:
    """Pairs of timings with this run's settings."""

    def __init__(self, *, rounds: int, threads: int) -> None:
        self.rounds, self.threads = rounds, threads
        self.clock = time.process_time if threads == 1 else time.perf_counter

    def subject(self, subject: Subject) -> dict[str, Any]:
        """A row of results: ratios over the best rival of each kind, and over PyTorch's FP32."""
        row: dict[str, Any] = {"kernels": subject.kernels, "ms": 1e3 * self.seconds(subject.run)}
        row["load"] = os.getloadavg()[0]
        for kind, runs in subject.rivals.items():
            name, best = self.best(runs)
            row |= {**self._ratio(f"x_{kind}", best, subject.run), f"best_{kind}": name}
            if kind == subject.latency:
                row |= self._latency(best, subject.run)
        if "torch" in subject.rivals.get("fp32", {}):
            row |= self._ratio("x_torch_fp32", subject.rivals["fp32"]["torch"], subject.run)
        return row

    def ratio(self, slow: Run, fast: Run) -> PairedResult:
        """How many times longer `slow` takes, pair by pair."""
        counts = [self._repeats(run) for run in (slow, fast)]
        result = paired(
            lambda: [slow() for _ in range(counts[0])],
            lambda: [fast() for _ in range(counts[1])],
            rounds=self.rounds,
            warmup=1,
            clock=self.clock,
        )
        scale = counts[1] / counts[0]
        return PairedResult(
            median=result.median * scale,
            low=result.low * scale,
            high=result.high * scale,
            ratios=tuple(ratio * scale for ratio in result.ratios),
        )

    def seconds(self, run: Run) -> float:
        """Median seconds of one call."""
        count, found = self._repeats(run), []
        for _ in range(self.rounds):
            begun = self.clock()
            for _ in range(count):
                run()
            found.append((self.clock() - begun) / count)
        return sorted(found)[len(found) // 2]

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
        return min(max(1, int(5e-3 / max(self.clock() - begun, 1e-7))), 500)
