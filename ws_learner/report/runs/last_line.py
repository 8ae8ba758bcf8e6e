"""The last line of a run's `progress.jsonl`, without reading what comes before."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from ws_learner.core import UserError, parse_json

__all__ = ["last_line"]

_END_BYTES = 1 << 16


def last_line(path: Path) -> dict[str, Any]:
    """The last whole line that is a JSON object; empty if there is none."""
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):
            return {}
        with path.open("rb") as file:
            file.seek(max(0, about.st_size - _END_BYTES))
            end = file.read(_END_BYTES)
    except (OSError, ValueError):
        return {}
    for line in reversed(end.decode("utf-8", errors="replace").split("\n")):
        try:
            value = parse_json(line, where="progress", remedy="")
        except UserError:
            continue
        if isinstance(value, dict):
            return value
    return {}
