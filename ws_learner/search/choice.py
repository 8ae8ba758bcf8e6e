"""The choice among finalists: by the mean over jittered copies, the simplest of those level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from agents import SEED
from envs import AllocationProblem, Evaluate, FloatArray, IntArray, Score
from ws_learner.core import say, track
from ws_learner.search.failures import refuse_failures, say_failures
from ws_learner.search.history import Rollout, distinct_best
from ws_learner.search.new_profiles import SPREAD, jittered
from ws_learner.search.rollout.scoring import failed_score

__all__ = [
    "Finals",
    "choose",
    "level_with_best",
    "score_copies",
    "score_finalists",
    "simplest",
    "take_finalists",
]

LEAST_DIFFERENCE = 0.002
"""Finalists whose mean rewards differ by less are level."""

_STREAM = 1_000_003  # keeps the noise apart from what the proposers draw


@dataclass(frozen=True, kw_only=True, eq=False)
class Finals:
    """The finalists of a search, scored on another split.

    Attributes:
        finalists: Profiles at the target, the best of the search first.
        rows: One rollout of kind `select` for each: its own zeros, and the mean score of its
            copies; failed if one of them did.
        rewards: (F, K) reward of each copy, -inf for failed finalists.
        jitters: Number of jittered copies; 0: each was scored as it is, so K is 1.
    """

    finalists: tuple[Rollout, ...]
    rows: tuple[Rollout, ...]
    rewards: FloatArray
    jitters: int


def take_finalists(
    found: Sequence[Rollout], problem: AllocationProblem, *, count: int
) -> list[Rollout]:
    """The best few distinct profiles at the target, best first.

    From two on, the best profile that the search started from is one of them. The others are the
    best of many on the search split, so that their rewards there are too high; another split must
    tell whether they are really ahead of it.

    Args:
        found: Rollouts at the target.
        problem: Names the target.
        count: Number of finalists at most.

    Raises:
        UserError: All failed.
        RuntimeError: There is none.
    """
    if not found:
        raise RuntimeError(
            f"no rollout has the {problem.budget} zeros of the target: the proposer proposed "
            "profiles of other targets only"
        )
    refuse_failures(found, problem.layers, split="search")
    ranked = distinct_best(found, count)
    first = distinct_best([rollout for rollout in found if rollout.kind == SEED], 1)
    known = {rollout.zeros.tobytes() for rollout in ranked}
    if count == 1 or not first or first[0].zeros.tobytes() in known:
        return ranked
    return [*ranked[: count - 1], *first]


def score_finalists(
    finalists: Sequence[Rollout],
    *,
    problem: AllocationProblem,
    evaluate: Evaluate,
    in_units: Callable[[IntArray], IntArray],
    jitters: int,
    seed: int,
    together: int,
) -> Finals:
    """Score jittered copies of the finalists on another split.

    The reward is rough: a profile whose densities differ by 3 % may score 0.01 less, and the best
    of a search is partly the luckiest. A copy has normal noise of `SPREAD` in the logarithm of
    each layer's density, and is projected onto budget and bounds. The noise is the same for all
    finalists, so that they can be compared in pairs.

    Args:
        finalists: Profiles at the target, the best of the search first.
        problem: Budget and bounds.
        evaluate: Scores profiles on the other split.
        in_units: What is scored of a profile, as patterns round it to whole units. Copies that are
            scored alike are scored once.
        jitters: Number of copies of each finalist; 0: the profile itself.
        seed: Seed of the noise.
        together: Number of profiles scored between two steps of the progress bar.
    """
    shape = (jitters, len(problem.layers))
    noise = np.random.default_rng([seed, _STREAM]).normal(0.0, SPREAD, shape)
    copies = [
        [jittered(rollout.zeros, row, problem=problem) for row in noise] or [rollout.zeros]
        for rollout in finalists
    ]
    scores = score_copies(copies, evaluate=evaluate, in_units=in_units, together=together)
    rows = tuple(
        Rollout(kind="select", zeros=rollout.zeros, score=_mean(own))
        for rollout, own in zip(finalists, scores, strict=True)
    )
    rewards = np.array([[score.reward for score in own] for own in scores])
    rewards[[bool(row.score.failed) for row in rows]] = -np.inf
    return Finals(finalists=tuple(finalists), rows=rows, rewards=rewards, jitters=jitters)


def choose(finals: Finals, *, problem: AllocationProblem) -> int:
    """Return the place of the finalist to choose: the simplest of those level with the best.

    A finalist is level with the best mean reward if the mean of its paired differences from it is
    below `LEAST_DIFFERENCE`, or below twice their standard error over the jitters. The simplest is
    one that the search started from, in closed form, rather than a searched one; then the one
    nearest to a common density, by the mean of |ln density - ln common density| over all weights;
    then the best of the search.

    Without jitters nothing is known of the roughness, and the best reward decides alone. A failed
    finalist is never chosen.

    Raises:
        UserError: All failed.
    """
    refuse_failures(finals.rows, problem.layers, split="select")
    say_failures(finals.rows, split="select")
    best = int(finals.rewards.mean(1).argmax())
    level = level_with_best(finals.rewards) if finals.jitters else [best]
    place = simplest([finals.finalists[one] for one in level], weights=problem.weights)
    if len(level) > 1:
        count = len(finals.rows)
        say(f"finalists: {len(level)} of {count} are level; the simplest of them is chosen")
    return level[place]


def score_copies(
    copies: Sequence[Sequence[IntArray]],
    *,
    evaluate: Evaluate,
    in_units: Callable[[IntArray], IntArray],
    together: int,
) -> list[list[Score]]:
    """Score every copy of every finalist, those that are alike once, with a progress bar."""
    keys = [[in_units(zeros).tobytes() for zeros in own] for own in copies]
    distinct: dict[bytes, IntArray] = {}
    for key, zeros in zip(chain(*keys), chain(*copies), strict=True):
        distinct.setdefault(key, zeros)
    profiles, found = list(distinct.values()), list[Score]()
    with track("finalists", total=len(profiles), phase="finalists") as progress:
        while len(found) < len(profiles):
            scores = evaluate(profiles[len(found) : len(found) + together])
            found += scores
            progress.advance(len(scores))
    scored = dict(zip(distinct, found, strict=True))
    return [[scored[key] for key in own] for own in keys]


def simplest(rollouts: Sequence[Rollout], *, weights: IntArray) -> int:
    """Place of the simplest profile: closed-form before searched, then nearest to uniform.

    Args:
        rollouts: Profiles of rewards that cannot be told apart, the better in the search first.
        weights: (L,) number of weights of each layer.
    """

    def complexity(place: int) -> tuple[bool, float, int]:
        kept = np.maximum(weights - rollouts[place].zeros, 0.5)
        away = np.abs(np.log(kept / weights) - np.log(kept.sum() / weights.sum()))
        return rollouts[place].kind != SEED, float(away @ weights / weights.sum()), place

    return min(range(len(rollouts)), key=complexity)


def level_with_best(rewards: FloatArray) -> list[int]:
    """Places of the finalists, rewards (F, K), that are level with the best mean."""
    leader = rewards[int(rewards.mean(1).argmax())]
    count, level = rewards.shape[1], []
    for place, own in enumerate(rewards):
        if not np.isfinite(own).all():  # failed
            continue
        behind = leader - own
        error = float(behind.std(ddof=1)) / count**0.5 if count > 1 else 0.0
        if behind.mean() < max(LEAST_DIFFERENCE, 2 * error):
            level.append(place)
    return level


def _mean(scores: Sequence[Score]) -> Score:
    """Mean score of the copies; a failed copy is the failure of all."""
    seconds = sum(score.seconds for score in scores)
    for score in scores:
        if score.failed:
            return replace(failed_score(score.failed), seconds=seconds)
    divergences = [score.divergence for score in scores if score.divergence is not None]
    return Score(
        reward=float(np.mean([score.reward for score in scores])),
        accuracy=float(np.mean([score.accuracy for score in scores])),
        accuracy_before=float(np.mean([score.accuracy_before for score in scores])),
        divergence=float(np.mean(divergences)) if divergences else None,
        seconds=seconds,
    )
