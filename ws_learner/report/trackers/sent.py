"""`tracking.json`: what of a run was sent to which tracker, so that nothing is sent twice."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ws_learner.core import UserError, write_json
from ws_learner.report.runs.fields import read_object

__all__ = ["Sent", "read_sent", "write_sent"]

FILE = "tracking.json"

_LOCK = threading.Lock()
"""Each tracker has a thread, and all have one file."""


@dataclass
class Sent:
    """What one tracker has of a run.

    Attributes:
        place: What its `begin` returned.
        steps: Phase -> last step of `metrics.csv`.
        names: Names that the last step had, of any phase.
        rollouts: Number of rollouts.
        best: Best reward among them.
        parameters: Names of the settings.
        results: Names of the results.
        files: File -> SHA-256.
    """

    place: str = ""
    steps: dict[str, int] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    rollouts: int = 0
    best: float | None = None
    parameters: list[str] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)


def read_sent(run: Path, kind: str) -> Sent:
    """What was sent; nothing if the file is not there or holds something else."""
    value = _all(run).get(kind)
    blank = asdict(Sent())
    if not isinstance(value, dict) or value.keys() != blank.keys():
        return Sent()
    typed = all(_like(value[name], blank[name]) for name in blank if name != "best")
    typed = typed and (value["best"] is None or isinstance(value["best"], int | float))
    return Sent(**value) if typed else Sent()


def write_sent(run: Path, kind: str, sent: Sent) -> None:
    """Remember what was sent."""
    with _LOCK:
        write_json(run / FILE, {**_all(run), kind: asdict(sent)})


def _all(run: Path) -> dict[str, Any]:
    try:
        return read_object(run / FILE)
    except UserError:
        return {}


def _like(value: Any, blank: Any) -> bool:
    kept = list(value.values()) if isinstance(value, dict) else value
    inner = all(isinstance(one, int | str) for one in kept) if isinstance(kept, list) else True
    return isinstance(value, type(blank)) and inner
