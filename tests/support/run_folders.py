"""Run folders for lists: copies of a real finished run, with other entries."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.support.ray_hosts import ROOT
from ws_learner.core.checksums import sealed

REAL = ROOT / "tests" / "support" / "before_the_move"
"""A finished run, one killed in its search and one killed in its training."""


def copied(folder: Path, name: str, *, of: str = "finished", **entries: Any) -> Path:
    """A copy of a real run below a folder.

    Args:
        folder: Above the copy.
        name: Of the copy.
        of: Which of the real runs.
        **entries: Entries of its summary, sealed again.
    """
    run = folder / name
    shutil.copytree(REAL / of, run)
    if entries:
        summary = json.loads((run / "summary.json").read_text())
        (run / "summary.json").write_text(json.dumps(sealed(summary | entries)))
    return run


def said(run: Path, **fields: Any) -> None:
    """Append a line to the run's progress log."""
    line = {"time": 1.0, "event": "progress", "state": "running", "phase": "search"} | fields
    with (run / "progress.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
