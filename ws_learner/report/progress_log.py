"""Reads `progress.jsonl`, which a run appends to while it works; the format is in docs/guide.md."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ws_learner.core import MOST_BYTES, AnyPath, as_path, shown

__all__ = ["ProgressLine", "last_progress", "parse_progress", "read_progress"]

_EVENTS = ("phase", "progress", "state")
_STATES = ("running", "finished", "stopped", "failed")
_TAIL = 1 << 16  # bytes; a line is below 1 kB
_TEXTS = ("phase", "description", "note")
_MOST_TEXT, _MOST_VALUES, _MOST = 300, 100, 1e15


@dataclass(frozen=True, kw_only=True)
class ProgressLine:
    """One line of `progress.jsonl`.

    Attributes:
        time: When it was written, Unix seconds.
        event: `phase` begins a phase or a piece of work in it, `progress` is an advance, `state`
            the beginning or end of a process.
        state: `running`, `finished`, `stopped` or `failed`.
        phase: `dense`, `database`, `search`, `finalists`, `training` or `report`; empty outside.
        number: Place of the phase in the command, from 1; None outside phases.
        phases: Number of phases.
        description: The piece of work, as the terminal shows it.
        done: Units of it that are done.
        total: All its units.
        elapsed_s: Seconds since it began in this process.
        left_s: Seconds until it ends, if that is known.
        command_left_s: Estimated seconds until the command ends, if there is an estimate.
        note: As shown.
        values: Latest numbers by name, such as `reward`, `accuracy`, `loss`.
    """

    time: float
    event: str
    state: str
    phase: str
    number: int | None
    phases: int | None
    description: str
    done: float
    total: float
    elapsed_s: float
    left_s: float | None
    command_left_s: float | None
    note: str
    values: dict[str, float]


_NAMES = tuple(field.name for field in fields(ProgressLine))


def read_progress(path: AnyPath) -> list[ProgressLine]:
    """All valid lines of a file, oldest first; others are dropped, and no file means no lines.

    Of a file above 64 MiB, its end is read.
    """
    return list(_lines(_read_end(as_path(path), MOST_BYTES)))


def parse_progress(data: bytes) -> list[ProgressLine]:
    """The valid lines of a piece of such a file, for a reader that follows it."""
    return list(_lines(data))


def last_progress(path: AnyPath) -> ProgressLine | None:
    """The last valid line, from the end of the file; None if there is none."""
    lines = list(_lines(_read_end(as_path(path), _TAIL)))
    return lines[-1] if lines else None


def _read_end(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - most, 0))
            data = file.read(min(size, most))
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return b""
    return data if size <= most else data.partition(b"\n")[2]


def _lines(data: bytes) -> Iterator[ProgressLine]:
    for text in data.split(b"\n"):
        if text and (line := _line(text)) is not None:
            yield line


def _line(text: bytes) -> ProgressLine | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not all(name in found for name in _NAMES):
        return None
    if not _valid(found):
        return None
    kept = {name: found[name] for name in _NAMES}
    kept |= {name: shown(found[name], most=_MOST_TEXT) for name in _TEXTS}
    kept["values"] = {shown(name): float(value) for name, value in found["values"].items()}
    return ProgressLine(**kept)


def _valid(line: dict[str, Any]) -> bool:
    values = line["values"]
    return (
        line["event"] in _EVENTS
        and line["state"] in _STATES
        and all(isinstance(line[name], str) for name in _TEXTS)
        and all(_is_number(line[name]) for name in ("time", "done", "total", "elapsed_s"))
        and all(_is_number(line[name] or 0) for name in ("left_s", "command_left_s"))
        and all(_is_count(line[name]) for name in ("number", "phases"))
        and isinstance(values, dict)
        and len(values) <= _MOST_VALUES
        and all(map(_is_number, values.values()))
    )


def _is_number(value: Any) -> bool:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return real and -_MOST < value < _MOST  # false for NaN


def _is_count(value: Any) -> bool:
    return value is None or (type(value) is int and 0 < value < 1000)
