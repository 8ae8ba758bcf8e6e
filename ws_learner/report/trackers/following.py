"""Track a run while it works, in a thread: a tracker never stops or delays it for long."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path

from ws_learner.core import AnyPath, as_path, say, shown
from ws_learner.report.trackers.mirror import Mirror
from ws_learner.report.trackers.registry import build_trackers
from ws_learner.report.trackers.tracker import EndState, Tracker, TrackerLike

__all__ = ["track_run", "tracking"]

_SECONDS_BETWEEN, _SECONDS_AT_END = 5.0, 60.0


class _Follower(threading.Thread):
    """Sends a run's news to one tracker every few seconds, until it is told how the run ended."""

    def __init__(self, run: Path, tracker: Tracker) -> None:
        super().__init__(name=f"tracker {tracker.kind}", daemon=True)
        self._mirror, self._ended = Mirror(run, tracker), threading.Event()
        self._state: EndState = "finished"
        self._late = False
        self._context = copy_context()  # messages as the caller spells them

    def run(self) -> None:
        self._context.run(self._follow)

    def _follow(self) -> None:
        try:
            self._mirror.begin()
            self._mirror.update()
            while not self._ended.wait(_SECONDS_BETWEEN):
                self._mirror.update()
            self._mirror.end(self._state)
        except Exception as error:  # of any kind: the tracker is another's code
            if not self._late:
                text = " ".join(str(error).split()) or type(error).__name__
                self._say(f"failed ({shown(text, most=200)})")

    def finish(self, state: EndState) -> None:
        """Wait until everything is sent, but not forever."""
        self._state = state
        self._ended.set()
        self.join(_SECONDS_AT_END)
        if self.is_alive():
            self._late = True
            self._say(f"does not answer within {_SECONDS_AT_END:.0f} s")

    def _say(self, what: str) -> None:
        say(
            f"`track` {self._mirror.tracker.kind}: the tracker {what}; the run is not affected, "
            "and the same command sends what is missing"
        )


@contextmanager
def tracking(run: AnyPath, trackers: Sequence[TrackerLike]) -> Iterator[None]:
    """Inside, what the run writes to its folder is sent to trackers, too.

    What was sent before, by an interrupted process for instance, is not sent again. A tracker that
    fails is said once.

    Args:
        run: The run's folder; nothing but `tracking.json`, and TensorBoard's folder, is written.
        trackers: Names of `TRACKERS`, or trackers.

    Raises:
        UserError: There is no such tracker, or its package is not installed.
    """
    followers = [_Follower(as_path(run, name="run"), one) for one in build_trackers(trackers)]
    for follower in followers:
        follower.start()
    state: EndState = "failed"
    try:
        yield
        state = "finished"
    except KeyboardInterrupt:
        state = "stopped"
        raise
    finally:
        for follower in followers:
            follower.finish(state)


def track_run(run: AnyPath, trackers: Sequence[TrackerLike]) -> None:
    """Send a run that is there already: what of it was not sent yet.

    Args:
        run: The run's folder.
        trackers: Names of `TRACKERS`, or trackers.

    Raises:
        UserError: There is no such tracker, or its package is not installed.
    """
    with tracking(run, trackers):
        pass
