"""The frontier of a search for many targets: what its policy emits, predicted and measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from agents import ProfilePolicy
from envs import AllocationProblem, IntArray, Score
from ws_learner.core import say, track, write_text
from ws_learner.report import read_frontier
from ws_learner.search.policy_use import Decision, decided

__all__ = ["frontier_targets", "measure_frontier"]

_TARGETS = 9


def frontier_targets(goals: tuple[float, float], target: float) -> tuple[float, ...]:
    """Nine prune ratios over the range, evenly spaced in ln(density), and the run's own."""
    low, high = goals
    spread = 1 - np.geomspace(1 - low, 1 - high, _TARGETS)
    return tuple(sorted({*(round(float(x), 6) for x in spread), target}))


def measure_frontier(
    policy: ProfilePolicy,
    problem: AllocationProblem,
    targets: Sequence[float],
    *,
    path: Path,
    per_round: int,
    shown: Callable[[IntArray], IntArray] | None = None,
) -> int:
    """Score what a policy emits at each target, one rollout each, and write `frontier.csv`.

    Nothing is done if the file exists.

    Args:
        policy: The policy.
        problem: Its `evaluate` scores the profiles.
        targets: Prune ratios.
        path: The file.
        per_round: Profiles that are scored together.
        shown: The zeros that the table shows of a profile, where it is in other units; targets are
            then shares of the cost that is saved.

    Returns:
        Number of rollouts.
    """
    if path.exists():
        return len(read_frontier(path))
    emitted = [decided(policy.emit(target)[0]) for target in targets]
    scores: list[Score] = []
    with track("frontier", total=len(targets)) as progress:
        for first in range(0, len(emitted), per_round):
            part = [one.zeros for one in emitted[first : first + per_round]]
            scores += problem.evaluate(part)
            progress.advance(len(part), note=f"{targets[len(scores) - 1]:g} of all weights zero")
    rows = [
        _row(target, one, score, problem, shown)
        for target, one, score in zip(targets, emitted, scores, strict=True)
    ]
    frame = pd.DataFrame(rows)
    write_text(path, frame.to_csv(index=False, lineterminator="\n"))
    off = (frame["predicted_reward"] - frame["reward"]).abs().mean()
    say(
        f"frontier: {len(rows)} targets, predicted rewards off by {off:.3f} on average; "
        f"see {path.name}"
    )
    return len(rows)


def _row(
    target: float,
    one: Decision,
    score: Score,
    problem: AllocationProblem,
    shown: Callable[[IntArray], IntArray] | None,
) -> dict[str, Any]:
    good = not score.failed
    row: dict[str, Any] = {
        "target": target,
        "supplier": one.supplier,
        "predicted_reward": one.predicted_reward,
        "reward": score.reward if good else None,
        "accuracy": score.accuracy if good else None,
    }
    zeros = one.zeros if shown is None else shown(one.zeros)
    counts = zip(problem.layers, zeros.tolist(), strict=True)
    return row | {f"zeros/{layer.name}": count for layer, count in counts}
