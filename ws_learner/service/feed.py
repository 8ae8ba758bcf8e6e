"""What happens in a run, read once for all who watch it and handed to each at its own pace.

Watchers share one list of events and keep a place in it, so a slow one delays no other, and none
misses a phase or the end. Nothing is read while nobody watches.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ws_learner.report import ProgressLine, parse_progress

__all__ = ["Event", "Feed", "Feeds"]

SECONDS_BETWEEN_READS = 0.5
_SECONDS_AFTER_THE_END = 10.0
_MOST_EVENTS = 2000
_ENDED = ("finished", "stopped", "failed")


@dataclass(frozen=True)
class Event:
    """A line of the run's progress, or a state that the service found.

    Attributes:
        number: Counts from 1 through the file; the id in a stream.
        line: The line.
    """

    number: int
    line: ProgressLine


class _Reader:
    """Reads what is appended to `progress.jsonl`."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset, self._lines = path, 0, 0
        self.events: list[Event] = []

    def read(self) -> bool:
        """Read on; say whether there is something new."""
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, 2)
                self._offset = self._offset if size >= self._offset else 0  # another file
                file.seek(self._offset)
                data = file.read(16 << 20)
        except OSError:
            return False
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        new = parse_progress(whole)
        for line in new:
            self._lines += 1
            self.events.append(Event(self._lines, line))
        if len(self.events) > _MOST_EVENTS:
            self.events = _compact(self.events)
        return bool(new)


def _compact(events: list[Event]) -> list[Event]:
    """Leave out advances that a later one of the same piece of work has overtaken."""
    kept = [
        one
        for one, after in pairwise(events)
        if one.line.event != "progress"
        or after.line.event != "progress"
        or after.line.description != one.line.description
    ]
    kept += events[-1:]
    return kept[-_MOST_EVENTS:] if len(kept) > _MOST_EVENTS else kept


class Feed:
    """The events of one run.

    Args:
        path: The run's directory.
        state: Says `running` while a process works on the run, else how it ended.
    """

    def __init__(self, path: Path, state: Callable[[], str]) -> None:
        self._reader, self._state = _Reader(path / "progress.jsonl"), state
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self.watchers = 0
        self.ended = ""

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """While such a context is open, the files are read."""
        self.watchers += 1
        self._task = self._task or asyncio.create_task(self._read())
        try:
            yield
        finally:
            self.watchers -= 1
            if self.watchers == 0:
                self._task.cancel()

    async def events(self, after: int) -> AsyncIterator[Event | str]:
        """Events with numbers above `after`; then, as text, the state that the run ended in.

        A watcher that comes late gets of earlier work every phase and state, and the last advance
        of each piece of work.
        """
        late = True
        while True:
            async with self._changed:
                while not (news := self._news(after)) and not self.ended:
                    await self._changed.wait()
            for event in _compact(news) if late else news:
                yield event
            if not news:
                yield self.ended
                return
            after, late = news[-1].number, False

    def _news(self, after: int) -> list[Event]:
        events = self._reader.events
        return events[bisect_right(events, after, key=lambda one: one.number) :]

    async def _read(self) -> None:
        """Read on until the run has ended."""
        end: float | None = 0.0  # a run that had ended before is not waited for
        while not self.ended:
            new, state = await asyncio.to_thread(lambda: (self._reader.read(), self._state()))
            if state == "running":
                end = None
            elif end is None:
                end = time.monotonic() + _SECONDS_AFTER_THE_END
            said = self._reader.events[-1].line.state if self._reader.events else ""
            over = end is not None and (said in _ENDED or time.monotonic() > end)
            if over:  # what was written before the state was looked at
                new = await asyncio.to_thread(self._reader.read) or new
            async with self._changed:
                self.ended = state if over else ""
                if new or over:
                    self._changed.notify_all()
            await asyncio.sleep(SECONDS_BETWEEN_READS)


class Feeds:
    """The feed of each run that is watched."""

    def __init__(self) -> None:
        self._feeds: dict[Path, Feed] = {}

    @asynccontextmanager
    async def of(self, path: Path, state: Callable[[], str]) -> AsyncIterator[Feed]:
        """The feed of a run, shared with whoever watches it now; a new one if it had ended."""
        feed = self._feeds.get(path)
        if feed is None or feed.ended:
            feed = self._feeds[path] = Feed(path, state)
        try:
            async with feed.watched():
                yield feed
        finally:
            if feed.watchers == 0 and self._feeds.get(path) is feed:
                del self._feeds[path]
