"""Inputs, timing and rows, for the scripts beside this file; needs NumPy only."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(sys.argv[1])
"""What `benchmarks.interoperability` built: files, inputs and outputs of each network."""


def example(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of a network and what it answers."""
    held = np.load(FOLDER / f"{name.split('.')[0]}.npz")
    return held["x"], held["y"]


def row(tool: str, given: str, question: str, answer: str) -> None:
    """One observation, for the caller to collect."""
    print(
        "ROW "
        + json.dumps(
            {
                "tool": f"{tool} {version(tool)}",
                "input": given,
                "question": question,
                "answer": answer,
            }
        ),
        flush=True,
    )


def same(seen: Any, wanted: np.ndarray) -> str:
    """`yes` if outputs agree, with their relative difference."""
    difference = float(np.linalg.norm(np.asarray(seen) - wanted) / np.linalg.norm(wanted))
    return f"{'yes' if difference < 1e-3 else 'NO'}, outputs differ by {difference:.0e}"


def zeros(weights: Mapping[str, np.ndarray], before: Mapping[str, np.ndarray]) -> str:
    """How many of the zeros of matrices and filters are zero again, of tensors of one name."""
    names = [n for n, w in before.items() if w.ndim > 1 and n in weights]
    total = sum(int((before[n] == 0).sum()) for n in names)
    kept = sum(int((np.asarray(weights[n])[before[n] == 0] == 0).sum()) for n in names)
    return f"all {total}" if kept == total else f"{kept} of {total}"


def share(kept: np.ndarray, empty: np.ndarray) -> str:
    """How many zeros are zero again, of one tensor."""
    count = int((np.asarray(kept)[empty] == 0).sum())
    return f"all {int(empty.sum())}" if count == int(empty.sum()) else f"{count} of {empty.sum()}"


def size(path: Path | str) -> int:
    """Bytes of a file or a folder."""
    path = Path(path)
    return sum(f.stat().st_size for f in ([path] if path.is_file() else path.rglob("*")))


def times(dense: Path | str, other: Path | str) -> str:
    """Size of a file as a share of the dense one's."""
    return f"{size(other) / size(dense):.2f} of the dense file"


def speedup(dense: Callable[[], Any], other: Callable[[], Any], rounds: int = 30) -> str:
    """Dense time over other, processor time in turns; the middle of the ratios and quartiles."""
    for run in (dense, other) * 3:
        run()
    ratios = []
    for _ in range(rounds):
        taken = []
        for run in (dense, other):
            start = time.process_time()
            for _ in range(5):
                run()
            taken.append(time.process_time() - start)
        ratios.append(taken[0] / taken[1])
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    return f"{middle:.2f} times as fast ({low:.2f} to {high:.2f})"


os.chdir(FOLDER)
