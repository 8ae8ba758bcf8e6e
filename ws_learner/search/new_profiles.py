"""Profiles near others: jittered copies, and new ones in place of those scored already."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np

from agents import Proposal
from envs import AllocationProblem, FloatArray, IntArray, project

__all__ = ["SPREAD", "jittered", "new_profiles"]

SPREAD = 0.03
"""Standard deviation of a jitter, in units of ln(density): the reward is rough at this scale."""

_TRIES = 8


def jittered(zeros: IntArray, noise: FloatArray, *, problem: AllocationProblem) -> IntArray:
    """Return a profile near another: the same number of zeros, within the problem's bounds.

    Layers whose bounds coincide stay as they are.

    Args:
        zeros: (L,) the profile. It may differ from the problem's budget.
        noise: (L,) added to the logarithms of the densities, before the projection.
        problem: Its bounds.
    """
    weights, held = problem.weights, problem.lower == problem.upper
    lower = np.where(held, zeros, np.minimum(problem.lower, zeros))
    upper = np.where(held, zeros, np.maximum(problem.upper, zeros))
    kept = np.maximum(weights - zeros, 0.5) * np.exp(noise)
    budget = int(zeros.sum())
    return project(weights - kept, budget=budget, lower=lower, upper=upper, weights=weights)


def new_profiles(
    proposals: Sequence[Proposal],
    *,
    problem: AllocationProblem,
    known: Collection[bytes],
    key: Callable[[IntArray], bytes],
    seed: Sequence[int],
) -> list[Proposal]:
    """Return the proposals, with a near neighbour in place of each that is known or repeated.

    The neighbour is a jittered copy, with noise of `SPREAD` at first and twice as much at each
    further try. A proposal without a new neighbour is left out. The result depends on the
    arguments only.

    Args:
        proposals: Profiles of one round.
        problem: Its bounds.
        known: Keys of the profiles scored already.
        key: Equal for profiles that are scored alike.
        seed: Numbers that differ from round to round.
    """
    taken, found = set(known), []
    for place, (kind, zeros) in enumerate(proposals):
        new: IntArray | None = zeros
        if key(zeros) in taken:
            rng = np.random.default_rng([*seed, place])
            new = _neighbour(zeros, problem, rng, is_new=lambda near: key(near) not in taken)
        if new is not None:
            taken.add(key(new))
            found.append(Proposal(kind, new))
    return found


def _neighbour(
    zeros: IntArray,
    problem: AllocationProblem,
    rng: np.random.Generator,
    *,
    is_new: Callable[[IntArray], bool],
) -> IntArray | None:
    for attempt in range(_TRIES):
        noise = rng.normal(0.0, SPREAD * 2**attempt, len(zeros))
        near = jittered(zeros, noise, problem=problem)
        if is_new(near):
            return near
    return None
