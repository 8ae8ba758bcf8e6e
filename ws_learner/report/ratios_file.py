"""Prune ratios from a user's CSV file: another run's `ratios.csv` or a hand-written table."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from envs import IntArray, LayerRow
from ws_learner.core import AnyPath, UserError, as_path, suggest

__all__ = ["layers_in_ratios", "read_ratios"]

_NEEDED = ("layer", "prune_ratio")
_SHOWN = 3


def read_ratios(path: AnyPath, layers: Sequence[LayerRow]) -> IntArray:
    """Read a network's planned prune ratios from a CSV file.

    Only the columns `layer` and `prune_ratio` are read, in any order, so that both a `ratios.csv`
    of another run and a hand-written file work. Every layer must be listed once.

    Args:
        path: The file.
        layers: The layer table, L rows.

    Returns:
        (L,) zeros of each layer, round(prune_ratio x weights), in the order of `layers`.

    Raises:
        UserError: The file cannot be read, or a column, layer or ratio is missing or wrong.
    """
    path = as_path(path)
    rows = {layer.name: layer for layer in layers}
    zeros: dict[str, int] = {}
    for line, name, text in _records(path):
        where = f"`ws_ratios` {path}, line {line}"
        if name not in rows:
            raise UserError(f"{where}: this network has no layer {name!r}; {suggest(name, rows)}")
        if name in zeros:
            raise UserError(f"{where}: layer {name} is listed twice; keep one of the lines")
        ratio = _ratio(text, where=where, layer=name)
        zeros[name] = round(ratio * rows[name].weights)
        if rows[name].exempt and zeros[name]:
            raise UserError(
                f"{where}: layer {name} is exempt and stays dense, so its prune_ratio must be 0, "
                f"not {text}; correct the line or remove the exemption"
            )
    missing = [name for name in rows if name not in zeros]
    if missing:
        more = ", ..." if len(missing) > _SHOWN else ""
        raise UserError(
            f"`ws_ratios` {path}: no line for {len(missing)} of {len(rows)} layers "
            f"({', '.join(missing[:_SHOWN])}{more}); add them; prune_ratio 0 keeps a layer dense"
        )
    return np.array([zeros[layer.name] for layer in layers], dtype=np.int64)


def layers_in_ratios(path: AnyPath) -> tuple[str, ...]:
    """The layers that a file of ratios prunes; see `read_ratios`.

    Raises:
        UserError: The file cannot be read, or a ratio is wrong.
    """
    path = as_path(path)
    found = []
    for line, name, text in _records(path):
        if _ratio(text, where=f"`ws_ratios` {path}, line {line}", layer=name):
            found.append(name)
    return tuple(found)


def _ratio(text: str, *, where: str, layer: str) -> float:
    try:
        ratio = float(text)
    except ValueError:
        ratio = math.nan
    if not 0.0 <= ratio <= 1.0:
        raise UserError(
            f"{where}: prune_ratio of {layer} is {text!r}; it must be a number from 0 to 1"
        )
    return ratio


def _records(path: Path) -> list[tuple[int, str, str]]:
    """Line number, layer and ratio text of every line that is not blank."""
    try:
        # utf-8-sig: spreadsheets may write a byte order mark.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True, skipinitialspace=True)
            columns = [name.strip() for name in reader.fieldnames or ()]
            _check_columns(path, columns)
            reader.fieldnames = columns
            return [
                (reader.line_num, (row["layer"] or "").strip(), (row["prune_ratio"] or "").strip())
                for row in reader
            ]
    except OSError as error:
        raise UserError(
            f"`ws_ratios` {path}: cannot read it: {error.strerror}; "
            "give a CSV file, such as another run's ratios.csv"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"`ws_ratios` {path}: not a CSV text file ({error}); "
            "give a CSV file, such as another run's ratios.csv"
        ) from error


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    for needed in _NEEDED:
        if needed not in columns:
            found = ", ".join(columns) or "none"
            raise UserError(
                f"`ws_ratios` {path}, line 1: no column {needed}; required are "
                f"{' and '.join(_NEEDED)}, found {found}"
            )
        if columns.count(needed) > 1:
            raise UserError(f"`ws_ratios` {path}, line 1: column {needed} appears twice; keep one")
