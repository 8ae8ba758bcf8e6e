"""Failed rollouts: how they are told, and when a search stops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from envs import LayerRow
from ws_learner.core import UserError, warn
from ws_learner.search.history import Rollout

__all__ = ["FIRST", "count_failed", "refuse_failures", "say_failures"]

FIRST = 3
"""Number of rollouts after which a search without a single score stops."""

_REASONS, _LETTERS = 3, 300


def count_failed(rollouts: Sequence[Rollout]) -> int:
    """Number of rollouts without a score."""
    return sum(bool(rollout.score.failed) for rollout in rollouts)


def refuse_failures(rollouts: Sequence[Rollout], layers: Sequence[LayerRow], *, split: str) -> None:
    """Do nothing if a rollout has a score.

    Args:
        rollouts: At least one.
        layers: The layer table.
        split: Name of the split that they were scored on.

    Raises:
        UserError: All failed; the message says why and at which overall ratio.
    """
    if count_failed(rollouts) < len(rollouts):
        return
    total = sum(row.weights for row in layers)
    ratios = sorted({f"{int(rollout.zeros.sum()) / total:.4f}" for rollout in rollouts})
    span = ratios[0] if len(ratios) == 1 else f"{ratios[0]} to {ratios[-1]}"
    raise UserError(
        f"all {len(rollouts)} rollouts failed on the {split} split, at an overall ratio of {span}: "
        f"{_reasons(rollouts)}. No profile can be chosen: network, `loss` and `metric` must run on "
        f"a pruned copy of the network with batches of the train and {split} split; correct this "
        "and start again (rollouts.csv lists every rollout)"
    )


def say_failures(rollouts: Sequence[Rollout], *, split: str) -> None:
    """Print how many rollouts failed and why, if any did."""
    failed = count_failed(rollouts)
    if failed:
        warn(
            f"{failed} of {len(rollouts)} rollouts failed on the {split} split and cannot be "
            f"chosen: {_reasons(rollouts)}"
        )


def _reasons(rollouts: Sequence[Rollout]) -> str:
    """The most frequent reasons, with their numbers if there are several."""
    lines = (r.score.failed.strip().splitlines()[0] for r in rollouts if r.score.failed.strip())
    counted = Counter(line[:_LETTERS] for line in lines)
    if len(counted) == 1:
        return next(iter(counted))
    shown = [f"{line} ({number} times)" for line, number in counted.most_common(_REASONS)]
    more = len(counted) - len(shown)
    return "; ".join([*shown, *([f"and {more} other reasons"] if more else [])])
