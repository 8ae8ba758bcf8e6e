"""How much faster are sparse layers and networks than the best dense engine here?

    python -m experiments.benchmarks.sparse_inference [--only layer mlp ...] [--out DIR]

Every row compares a sparse kernel with dense engines (PyTorch, ONNX Runtime and, where they are
installed, OpenVINO), float32 and INT8. Two pieces of work run in turn in one process; what is
shown is the median of the rounds' ratios of processor time (of wall time with two threads).
The outputs are not compared here: tests do that. With OpenVINO in a folder of its own, put that
folder into PYTHONPATH. ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI switches AMX off for PyTorch and
OpenVINO, `--no_amx` for our kernels.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass

__all__ = ["main"]

PARTS = ("layer", "mlp", "gemv", "conv", "bert", "dlrm")
Run = Callable[[], object]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts asked for; write one CSV and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts")
    parser.add_argument("--threads", type=int, default=1, help="1 (default) or 2")
    parser.add_argument("--rounds", type=int, default=11, help="pairs of timings (default 11)")
    parser.add_argument("--no_amx", action="store_true", help="do not use AMX kernels")
    parser.add_argument(
        "--out", type=Path, help="folder for results.csv (rows are added) and README.md"
    )
    given = parser.parse_args(arguments)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported
    import pandas as pd
    import torch

    from experiments.benchmarks import sparse_cases, sparse_table

    torch.set_num_threads(given.threads)
    if given.no_amx:
        _without_amx()
    measure = Measure(rounds=given.rounds, threads=given.threads)
    rows: list[dict[str, Any]] = []
    for part in given.only:
        for row in sparse_cases.CASES[part](measure):
            row = {"part": part, "threads": given.threads, "amx": not given.no_amx, **row}
            rows.append(row)
            print(
                {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True
            )
            if given.out:
                _append(given.out / "results.csv", pd.DataFrame([row]))
    if given.out:
        sparse_table.write_page(given.out)
    return 0


class _Raw(argparse.RawDescriptionHelpFormatter):
    pass


class Measure:
    """Pairs of timings with this run's settings."""

    def __init__(self, *, rounds: int, threads: int) -> None:
        self.rounds, self.threads = rounds, threads
        self.clock = time.process_time if threads == 1 else time.perf_counter

    def ratio(self, slow: Run, fast: Run) -> float:
        """How many times longer `slow` takes: median over the rounds."""
        from experiments.benchmarks.paired import paired

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


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _without_amx() -> None:
    from ws_learner.runtime import candidates, choice, cpu

    kept = tuple(isa for isa in cpu.usable_isas() if isa.dot != "amx")
    for module in (candidates, choice):
        module.usable_isas = lambda: kept  # type: ignore[attr-defined]


def _append(path: Path, frame: Any) -> None:
    import pandas as pd

    if path.exists():
        frame = pd.concat([pd.read_csv(path), frame], ignore_index=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False, float_format="%.4g")


if __name__ == "__main__":
    raise SystemExit(main())
