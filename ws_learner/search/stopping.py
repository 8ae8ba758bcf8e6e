"""When a search ends, and what is said about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ws_learner.core import say
from ws_learner.search.history import Rollout

__all__ = ["LEAST_GAIN", "Stop", "rounds_without_gain", "say_stop"]

Stop = Literal["rollouts", "patience", "time", "exhausted"]
"""Why a search ended: its rollouts are used up, the best reward does not rise any more, its time
is over, or the proposer has no profile that is new."""

LEAST_GAIN = 0.001
"""A best reward that rises by less counts as unchanged."""


def rounds_without_gain(rounds: Sequence[Sequence[Rollout]]) -> int:
    """Number of rounds since the best reward last rose by more than `LEAST_GAIN`.

    Small gains add up: the best is compared with what it was when it last rose.

    Args:
        rounds: The rollouts at the target, round by round. Rounds without any do not count.
    """
    level, still = float("-inf"), 0
    for rollouts in rounds:
        if not rollouts:
            continue
        top = max((r.score.reward for r in rollouts if not r.score.failed), default=level)
        level, still = (top, 0) if top > level + LEAST_GAIN else (level, still + 1)
    return still


def say_stop(stop: Stop, *, done: int, rollouts: int, patience: int) -> None:
    """Print why a search ended before all its rollouts."""
    if stop == "rollouts":
        return
    why = {
        "patience": f"the best reward has not risen by more than {LEAST_GAIN} for {patience} "
        "rounds (`ws_patience`)",
        "time": "`ws_search_time` is over; the result depends on the speed of this machine, so it "
        "is not reproducible",
        "exhausted": "the proposals have no new profile any more",
    }[stop]
    say(f"search: ended after {done} of {rollouts} rollouts: {why}")
