"""How progress is shown: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from typing import Any, Protocol

from ws_learner.core.elapsed import Work, duration_text
from ws_learner.core.messages import say_passing
from ws_learner.core.progress_phases import Phases

__all__ = ["BarView", "LinesView", "NoView", "View"]

_SECONDS_BETWEEN_LINES = 15.0
_SECONDS_BETWEEN_FRAMES = 0.1
_WIDE = 150  # columns of a terminal that has room for the command's estimate


class View(Protocol):
    """Shows a piece of work."""

    def __enter__(self) -> View:
        """Begin."""

    def __exit__(self, *error: object) -> None:
        """End."""

    def show(self, now: float) -> None:
        """Look at the work again, which has advanced."""


class NoView:
    """Shows nothing."""

    def __enter__(self) -> NoView:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def show(self, now: float) -> None:
        """Nothing to do."""


class LinesView(NoView):
    """Plain lines for logs: phase, count, elapsed and left."""

    def __init__(self, work: Work, phases: Phases | None) -> None:
        self._work, self._phases = work, phases
        self._last = work.began

    def show(self, now: float) -> None:
        """Print a line if the last one is 15 seconds old, or all is done."""
        work = self._work
        if now - self._last < _SECONDS_BETWEEN_LINES and work.done < work.total:
            return
        self._last = now
        share = work.done / max(work.total, 1e-9)
        parts = [f"{count_text(work)} ({share:.0%})", f"{duration_text(work.elapsed(now))} elapsed"]
        parts += [text] if (text := left_text(work, self._phases, now)) else []
        parts += [work.note] if work.note else []
        say_passing(f"{title_text(work, self._phases)}: {', '.join(parts)}")


class BarView:
    """Progress bar by rich, one line: the times go on between two advances."""

    def __init__(self, work: Work, phases: Phases | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, ProgressColumn, TextColumn
        from rich.progress import Progress as RichProgress
        from rich.text import Text

        console = Console(stderr=True)
        wide = console.width >= _WIDE

        class Details(ProgressColumn):
            """Count, elapsed, left, note; what does not fit is cut."""

            def render(self, task: Any) -> Text:
                now = time.monotonic()
                elapsed = f"{duration_text(work.elapsed(now))} elapsed"
                left = left_text(work, phases if wide else None, now)
                parts = (count_text(work), elapsed, left, work.note)
                text = ", ".join(part for part in parts if part)
                return Text(text, no_wrap=True, overflow="ellipsis")

        self._work, self._shown = work, work.began
        self._bar = RichProgress(
            TextColumn("{task.description}", markup=False, table_column=_fixed()),
            BarColumn(bar_width=20 if wide else 8, table_column=_fixed()),
            Details(),
            console=console,
        )
        self._task = self._bar.add_task(title_text(work, phases), total=work.total)
        self._update()

    def __enter__(self) -> BarView:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._update()
        self._bar.stop()

    def show(self, now: float) -> None:
        """Take over count and note, at most ten times in a second."""
        if now - self._shown >= _SECONDS_BETWEEN_FRAMES or self._work.done >= self._work.total:
            self._shown = now
            self._update()

    def _update(self) -> None:
        work = self._work
        self._bar.update(self._task, completed=work.done, total=work.total)


def _fixed() -> Any:
    from rich.table import Column

    return Column(no_wrap=True)


def title_text(work: Work, phases: Phases | None) -> str:
    """The work with its phase's number, such as `[2 of 5] search`."""
    if phases is None or phases.place is None or len(phases.names) < 2:
        return work.description
    return f"[{phases.place + 1} of {len(phases.names)}] {work.description}"


def count_text(work: Work) -> str:
    """Units done of all."""
    return f"{work.done:,.0f} of {work.total:,.0f}"


def left_text(work: Work, phases: Phases | None, now: float) -> str:
    """Time left of the work and, if it is known, of the command; empty if there is no guess."""
    left = work.left(now)
    if left is None or work.done >= work.total:
        return ""
    text = f"about {duration_text(left)} left"
    command = None if phases is None else phases.left(work, now)
    if command is None or command <= left:
        return text
    return f"{text} (of the command about {duration_text(command)})"
