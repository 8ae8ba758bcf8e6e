"""Tabular splits of numbers and categories, and a reader of Criteo's format."""

from __future__ import annotations

import math
from array import array
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ws_learner.core import UserError, track
from ws_learner.data.reading import MemorySplit
from ws_learner.data.splits import Batch

__all__ = ["TableSplit", "read_criteo"]

_NUMBERS, _CATEGORIES = 13, 26


class TableSplit(MemorySplit):
    """A `Split` over rows in memory: numbers first, then categories as whole floats."""

    def __init__(self, rows: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> None:
        """Store (N, K) rows and (N,) labels."""
        self._rows, self._labels = torch.from_numpy(rows), torch.from_numpy(labels)

    def __len__(self) -> int:
        return len(self._labels)

    def gather(self, positions: npt.NDArray[np.int64], rng: np.random.Generator | None) -> Batch:
        """Rows and labels; nothing is augmented."""
        chosen = torch.from_numpy(positions)
        return self._rows[chosen], self._labels[chosen]


def read_criteo(
    path: Path, *, rows: int, limit: int | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Read Criteo's click logs: Kaggle's train.txt or an unpacked day of the Terabyte data set.

    A line has a label, 13 integers and 26 hexadecimal words, separated by tabs; any may be
    missing. Numbers become log(1 + max(x, 0)) and words their value modulo `rows`, as in DLRM
    (Naumov et al. 2019); missing values become 0.

    Args:
        path: Text file.
        rows: Rows of every embedding table; at most 2^24, which float32 represents exactly.
        limit: Number of lines to read; all by default.

    Returns:
        (N, 39) numbers and categories, and (N,) labels.

    Raises:
        UserError: The file cannot be read, or a line is malformed.
    """
    if not 1 <= rows <= 1 << 24:
        raise UserError(f"rows {rows}: must be from 1 to 16777216")
    table, labels = array("f"), array("b")  # a day of clicks does not fit into lists
    try:
        size = path.stat().st_size
        with path.open() as file, track(f"reading {path.name}", total=size) as progress:
            for number, line in enumerate(file):
                if number == limit:
                    break
                label, *words = line.rstrip("\n").split("\t")
                if len(words) != _NUMBERS + _CATEGORIES:
                    raise ValueError(f"{len(words) + 1} columns instead of 40")
                if label not in ("0", "1"):
                    raise ValueError(f"label {label!r} instead of 0 or 1")
                values = [math.log1p(max(int(w), 0)) if w else 0.0 for w in words[:_NUMBERS]]
                table.extend(values)
                table.extend(int(w, 16) % rows if w else 0 for w in words[_NUMBERS:])
                labels.append(int(label))
                progress.advance(len(line))
    except OSError as error:
        raise UserError(f"{path}: cannot read it: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{path}, line {len(labels) + 1}: not Criteo's format ({error})") from error
    found = np.frombuffer(table, np.float32) if table else np.empty(0, np.float32)
    return found.reshape(-1, _NUMBERS + _CATEGORIES), np.array(labels, np.int64)
