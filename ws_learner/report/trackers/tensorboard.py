"""TensorBoard: event files in the run's folder, written by tensorboardX, which comes with Ray."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ws_learner.report.trackers.tracker import EndState

__all__ = ["TensorBoardTracker"]

FOLDER = "tensorboard"
_EVENTS = "events.out.tfevents.*"
_TEXTS = (".md",)


class TensorBoardTracker:
    """Writes `tensorboard/` in the run's folder; `tensorboard --logdir runs` shows it."""

    kind = "tensorboard"

    def begin(self, run: Path, *, name: str, tags: Sequence[str], place: str) -> str:
        """Begin another event file; TensorBoard reads all of a folder as one run."""
        from tensorboardX import SummaryWriter

        folder = run / FOLDER
        known = bool(place) and any(folder.glob(_EVENTS))
        for old in () if known else folder.glob(_EVENTS):
            old.unlink()  # nothing says what is in it
        suffix = f".{time.time_ns()}"  # a file of the same second would be overwritten
        self._writer: Any = SummaryWriter(str(folder), filename_suffix=suffix)
        if known:
            return place
        self._writer.add_text("run", _quoted(" ".join([name, *tags])), 0)
        return f"{FOLDER} {time.time_ns()}"

    def parameters(self, values: Mapping[str, str]) -> None:
        """Add the settings as one table of text."""
        rows = [f"| {_cell(name)} | {_cell(value)} |" for name, value in values.items()]
        self._writer.add_text("settings", "\n".join(["| setting | value |", "|---|---|", *rows]), 0)
        self._writer.flush()

    def metrics(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Add scalars."""
        for step, values in rows:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def artifact(self, file: Path) -> None:
        """Add the report as text; TensorBoard keeps no files."""
        if file.suffix in _TEXTS:
            self._writer.add_text(file.name, file.read_text(encoding="utf-8"), 0)

    def end(self, state: EndState) -> None:
        """Write everything to disk."""
        self._writer.close()


def _cell(text: str) -> str:
    return _quoted(text).replace("|", "\\|")


def _quoted(text: str) -> str:
    """Text as itself: TensorBoard shows Markdown."""
    return "".join(f"\\{one}" if one in "\\`*_{}[]<>()#+!" else one for one in text)
