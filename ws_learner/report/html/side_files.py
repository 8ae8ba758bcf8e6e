"""Files of a run that are no results: a page leaves out what it cannot read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ws_learner.core import UserError, read_text, read_yaml_file, shown
from ws_learner.report.csv_io import DAMAGED_TABLE, read_tidy

__all__ = [
    "ASIDE",
    "plain",
    "read_dense",
    "read_messages",
    "read_protocols",
    "read_settings",
    "settings_of_python",
    "text",
]

ASIDE = "the page goes on without it"
_MOST_NAME = 200


def text(value: object, most: int = _MOST_NAME) -> str:
    """A value of a file as the page shows it: short, without control characters."""
    return shown(value, most=most)


def plain(value: object) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return number if math.isfinite(number) else None


def read_settings(path: Path) -> dict[str, Any]:
    """Read settings by name, in YAML.

    Raises:
        UserError: It holds none.
    """
    found = read_yaml_file(path, where=path.name, remedy=ASIDE)
    if not isinstance(found, dict):
        raise UserError(f"{path.name}: holds no settings; {ASIDE}")
    return found


def settings_of_python(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run that was made from Python, as far as its identity tells them."""
    parts = (identity.get("config"), identity.get("agent"))
    return {name: one[name] for one in parts if isinstance(one, dict) for name in one}


def read_dense(path: Path) -> pd.DataFrame:
    """Read a `dense.csv`.

    Raises:
        UserError: It is no such table.
    """
    return read_tidy(path, text=("layer", "reason"), needs=("layer", "weights", "reason"))


def read_protocols(path: Path) -> pd.DataFrame:
    """Read a `protocols.csv`, whose columns but the first are whole numbers.

    Raises:
        UserError: It is no such table.
    """
    frame = read_tidy(path, text=("layer",), needs=("layer", "weights"))
    if frame.empty:
        return frame
    counts = frame.drop(columns="layer")
    if not (counts.dtypes == "int64").all() or bool((counts.lt(0)).any(axis=None)):
        raise UserError(f"{path.name}: a count is no whole number; {DAMAGED_TABLE}")
    weights = counts["weights"]
    if bool((weights < 1).any()) or bool(counts.gt(weights, axis=0).any(axis=None)):
        raise UserError(f"{path.name}: a layer has more zeros than weights; {DAMAGED_TABLE}")
    if bool(frame["layer"].duplicated().any()):
        raise UserError(f"{path.name}: a layer is there twice; {DAMAGED_TABLE}")
    return frame


def read_messages(path: Path) -> tuple[tuple[str, str], ...]:
    """Level and text of the distinct lines of a `messages.jsonl`, in order.

    What is no line of ours, such as a half one, is left out.

    Raises:
        UserError: It is no text.
    """
    found: dict[str, str] = {}
    for line in read_text(path, where=path.name, remedy=ASIDE).splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and isinstance(entry.get("text"), str):
            level = "warning" if entry.get("level") == "warning" else "status"
            found.setdefault(text(entry["text"], 600), level)
    return tuple((level, line) for line, level in found.items())
