"""Seconds to list many runs: `python -m benchmarks.run_list [--runs 1000] [--run runs/<one>]`.

Copies one finished run (by default that of experiments/results), with other results in each copy,
and times `list_runs` in this process and `ws-learner runs` as a command. The page cache is emptied
of the copies before each repetition, so that their files are read from disk. Processor seconds are
shown beside those of the clock: on a busy machine only the former say something.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ws_learner.core import sealed
from ws_learner.report import list_runs, write_label

ROOT = Path(__file__).parents[1]
FINISHED = ROOT / "experiments" / "results" / "resnet20_at_cifar10-optimal-0.75"


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--run", type=Path, default=FINISHED, help="finished run to copy")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ws-runs-") as name:
        folder = Path(name)
        copy_runs(given.run, folder, given.runs)
        command = [sys.executable, "-m", "experiments.cli.console", "runs", str(folder)]
        timed = {
            "list_runs, files on disk": lambda: list_runs(folder),
            "ws-learner runs, files on disk": lambda: run(command),
        }
        for title, work in timed.items():
            seconds = [measure(work, folder, cold=True) for _ in range(given.repeats)]
            show(title, seconds, given.runs)
        warm = [measure(lambda: list_runs(folder), folder, cold=False) for _ in range(5)]
        show("list_runs, files in memory", warm, given.runs)


def copy_runs(source: Path, folder: Path, count: int) -> None:
    """Copies with other accuracies and ratios, names and tags."""
    rng = random.Random(0)
    summary = json.loads((source / "summary.json").read_text())
    summary = {k: v for k, v in summary.items() if k not in ("sha256", "sha256_of")}
    for place in range(count):
        run = folder / f"resnet20_at_cifar10-gradual-{rng.randrange(16**8):08x}"
        shutil.copytree(source, run, ignore=shutil.ignore_patterns("figures", "state"))
        accuracy, ratio = round(rng.uniform(0.85, 0.92), 4), round(rng.uniform(0.5, 0.98), 2)
        changed = {"sparse_accuracy": accuracy, "sparse_metric": accuracy, "seed": place}
        changed |= {"target_prune_ratio": ratio, "achieved_prune_ratio": ratio}
        (run / "summary.json").write_text(json.dumps(sealed(summary | changed), indent=2))
        write_label(run, name=f"run {place}", tags=["benchmark", f"seed {place % 5}"])


def measure(work: Callable[[], object], folder: Path, *, cold: bool) -> tuple[float, float]:
    """Seconds of one call, by the clock and of processors."""
    if cold:
        for path in folder.rglob("*"):
            if path.is_file():
                forget(path)
    begun, used = time.perf_counter(), processor_seconds()
    work()
    return time.perf_counter() - begun, processor_seconds() - used


def processor_seconds() -> float:
    """Of this process and its ended children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def forget(path: Path) -> None:
    """Drop a file's bytes from the page cache."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def run(command: list[str]) -> None:
    """Run a command in the project's folder."""
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def show(title: str, seconds: list[tuple[float, float]], count: int) -> None:
    """Print a line."""
    clock, used = (statistics.median(one) for one in zip(*seconds, strict=True))
    each = ", ".join(f"{one:.2f}" for one, _ in seconds)
    print(
        f"{title}, {count:,} runs: {clock:.2f} s (each: {each}), {used:.2f} s of a processor",
        flush=True,
    )


if __name__ == "__main__":
    main()
