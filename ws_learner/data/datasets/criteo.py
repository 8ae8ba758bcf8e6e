"""Criteo's click logs as splits: click prediction for advertisements."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from ws_learner.core import AnyPath, UserError, as_path
from ws_learner.data.splits import DataSplits
from ws_learner.data.tabular import TableSplit, read_criteo

__all__ = ["load_criteo"]

_FILES = ("train.txt", "day_0")
_LAST = 7  # the last seventh, a day of Kaggle's week, is held out


def load_criteo(data_dir: AnyPath, *, rows: int, limit: int | None = None) -> DataSplits:
    """Read a click log in order of time; see `read_criteo`.

    The first six sevenths are the training split. Half of the last seventh is the test split, and
    a quarter each are search and select; DLRM halves the last day too (Naumov et al. 2019, section
    5.1).

    Args:
        data_dir: The file, or a folder with train.txt (Kaggle's) or day_0 (of the Terabyte set).
        rows: Rows of every embedding table; words are taken modulo this number.
        limit: Number of lines to read; all by default.

    Raises:
        UserError: The file is missing, malformed or too short.
    """
    data_dir = as_path(data_dir, name="data_dir")
    path = _find(data_dir)
    table, clicked = read_criteo(path, rows=rows, limit=limit)
    last = len(clicked) // _LAST
    if last < 4:
        raise UserError(f"{path}: {len(clicked)} lines are too few to split; give 28 or more")
    ends = np.cumsum([len(clicked) - last, last // 4, last // 4])
    parts = [
        TableSplit(some, labels)
        for some, labels in zip(np.split(table, ends), np.split(clicked, ends), strict=True)
    ]
    digest = hashlib.sha256(table.tobytes() + clicked.tobytes())
    return DataSplits(
        name="criteo",
        digest=digest.hexdigest(),
        num_classes=2,
        input_shape=(table.shape[1],),
        train=parts[0],
        search=parts[1],
        select=parts[2],
        test=parts[3],
    )


def _find(data_dir: Path) -> Path:
    if data_dir.is_file():
        return data_dir
    for name in _FILES:
        if (data_dir / name).is_file():
            return data_dir / name
    raise UserError(
        f"`data_dir` {data_dir}: no {' or '.join(_FILES)} there; unpack Criteo's file or give it"
    )
