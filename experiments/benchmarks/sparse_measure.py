"""Timings of sparse inference: pairs within one process, and the best of several rivals."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from experiments.benchmarks.paired import paired

__all__ = ["Measure", "Run"]

Run = Callable[[], object]


class Measure:
    """Pairs of timings with this run's settings."""

    def __init__(self, *, rounds: int, threads: int) -> None:
        self.rounds, self.threads = rounds, threads
        self.clock = time.process_time if threads == 1 else time.perf_counter

    def ratio(self, slow: Run, fast: Run) -> float:
        """How many times longer `slow` takes: median over the rounds."""
        counts = [self._repeats(run) for run in (slow, fast)]
        result = paired(
            lambda: [slow() for _ in range(counts[0])],
            lambda: [fast() for _ in range(counts[1])],
            rounds=self.rounds,
            warmup=1,
            clock=self.clock,
        )
        return result.median * counts[1] / counts[0]

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

    def against(self, run: Run, rivals: dict[str, dict[str, Run]]) -> dict[str, Any]:
        """Ratios over the best of each kind of rival, and over PyTorch in float32."""
        row: dict[str, Any] = {"ms": 1e3 * self.seconds(run)}
        for kind, runs in rivals.items():
            name, best = self.best(runs)
            row |= {f"x_{kind}": self.ratio(best, run), f"best_{kind}": name}
        if "torch" in rivals.get("fp32", {}):
            row["x_torch_fp32"] = self.ratio(rivals["fp32"]["torch"], run)
        return row

    def _repeats(self, run: Run) -> int:
        run()
        begun = self.clock()
        run()
        return min(max(1, int(5e-3 / max(self.clock() - begun, 1e-7))), 500)
