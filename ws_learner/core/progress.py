"""Progress of long operations: a bar on a terminal, a line every few seconds elsewhere.

The same goes to the run's `progress.jsonl` while one is written, see `log_progress`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from ws_learner.core.elapsed import Work
from ws_learner.core.messages import is_quiet, message_style, say
from ws_learner.core.progress_file import Event, current_file
from ws_learner.core.progress_phases import current_phases, phase_fields
from ws_learner.core.progress_views import BarView, LinesView, NoView, View

__all__ = ["Progress", "message_style", "say", "track"]

_SECONDS_BETWEEN_ENTRIES = 1.0


class Progress(Protocol):
    """Receives the progress of a long operation."""

    def advance(
        self,
        amount: float = 1.0,
        *,
        note: str | None = None,
        values: Mapping[str, float] | None = None,
    ) -> None:
        """Advance by `amount` units.

        Args:
            amount: Units done since the last call.
            note: Shown next to the bar; None keeps the one before.
            values: Latest numbers by name, for `progress.jsonl`; None keeps those before.
        """

    def start_from(self, done: float) -> None:
        """Count what an earlier process did, which has no part in the time left."""


class _Reporter:
    """Progress that is shown, and written to the run's file."""

    def __init__(self, work: Work, view: View) -> None:
        self._work, self._view = work, view
        self._file, self._phases = current_file(), current_phases()
        self._written, self._entry = work.began, work.done

    def advance(
        self,
        amount: float = 1.0,
        *,
        note: str | None = None,
        values: Mapping[str, float] | None = None,
    ) -> None:
        now = time.monotonic()
        self._work.advance(amount, now, note=note, values=values)
        if now - self._written >= _SECONDS_BETWEEN_ENTRIES:
            self.enter("progress", now)
        self._view.show(now)

    def start_from(self, done: float) -> None:
        now = time.monotonic()
        self._work.start_from(done, now)
        self.enter("phase", now)

    def end(self) -> None:
        if self._work.done != self._entry:
            self.enter("progress", time.monotonic())

    def enter(self, event: Event, now: float) -> None:
        """Append a line to the run's file."""
        self._written, self._entry = now, self._work.done
        phases, work = self._phases, self._work
        if phases is not None:
            phases.learn(work)
            phases.announce(phases.left(work, now))
        if self._file is not None:
            self._file.line(event, **phase_fields(phases, work, now))


@contextmanager
def track(
    description: str,
    *,
    total: float,
    done: float = 0.0,
    phase: str | None = None,
    shown: bool = True,
    resumes: bool = False,
) -> Iterator[Progress]:
    """Show progress of `total` units of work, of which an earlier run finished `done`.

    Args:
        description: What is shown.
        total: Units of work.
        done: Units that are done already.
        phase: The phase of the command that it begins, see `enter_phase`; None: it belongs to the
            current one.
        shown: False: only in `progress.jsonl`.
        resumes: `start_from` will say what is done already.

    Example:
        >>> with track("pruning", total=3) as progress:
        ...     for _ in range(3):
        ...         progress.advance()
    """
    work, phases = Work(description=description, total=total, done=done), current_phases()
    if phase is not None and phases is not None:
        phases.enter(phase)
    if is_quiet() or not shown:
        view: View = NoView()
    else:
        view = BarView(work, phases) if sys.stderr.isatty() else LinesView(work, phases)
    reporter = _Reporter(work, view)
    if not resumes:
        reporter.enter("phase", work.began)
    try:
        with view:
            yield reporter
    finally:
        reporter.end()
