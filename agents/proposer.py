"""The proposer interface: profiles to try next, given the history of scored trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from envs import IntArray, Score

__all__ = [
    "SEED",
    "Proposal",
    "Proposer",
    "Stateless",
    "Trial",
    "generator",
    "ranked",
    "seed_trials",
    "step_size",
]

SEED = "prior"
"""Kind of the trials that a search starts from: profiles computed in closed form."""


class Trial(Protocol):
    """One scored profile."""

    @property
    def kind(self) -> str:
        """Name of the proposer."""

    @property
    def zeros(self) -> IntArray:
        """(L,) zero counts."""

    @property
    def score(self) -> Score:
        """Its score."""


class Proposal(NamedTuple):
    """A profile to try, (L,) zero counts, and the name of its proposer."""

    kind: str
    zeros: IntArray


class Proposer(Protocol):
    """Proposes the profiles to score next.

    A search scores closed-form profiles first (kind `SEED`), then calls `propose` repeatedly.
    """

    def propose(self, history: Sequence[Trial], count: int) -> list[Proposal]:
        """Return one to `count` profiles that keep the problem's bounds and meet its budget.

        Args:
            history: All trials so far, in order; at least one.
            count: Maximum number of profiles.
        """

    def state(self) -> dict[str, Any]:
        """Return plain values from which `restore` continues, without the history."""

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from the state of a proposer with the same settings."""


class Stateless:
    """Base of proposers that depend on seed and history only, so they have no state to save."""

    def state(self) -> dict[str, Any]:
        """Return an empty state."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Do nothing."""


def generator(seed: int, history: Sequence[Trial]) -> np.random.Generator:
    """Random generator for the next call, derived from the seed and the history's length."""
    return np.random.default_rng([seed, len(history)])


def ranked(history: Sequence[Trial]) -> list[Trial]:
    """Return the distinct profiles that did not fail, best first; ties keep their order.

    If every trial failed, return the first one, so that the search has a starting point.
    """
    order = sorted(
        (trial for trial in history if not trial.score.failed),
        key=lambda trial: -trial.score.reward,
    )
    distinct: dict[bytes, Trial] = {}
    for trial in order:
        distinct.setdefault(trial.zeros.tobytes(), trial)
    return list(distinct.values()) or list(history[:1])


def seed_trials(history: Sequence[Trial]) -> Sequence[Trial]:
    """Return the trials of kind `SEED` that did not fail, or all trials if there is none."""
    seeds = [trial for trial in history if trial.kind == SEED and not trial.score.failed]
    return seeds or history


def step_size(
    history: Sequence[Trial], *, start: float, least: float, most: float, success: float = 0.2
) -> float:
    """Return a step size that grows with every new best trial and shrinks otherwise.

    The one-fifth success rule (Rechenberg 1973; S. Kern et al., Natural Computing 3, 2004): if
    a share `success` of the trials improves, the step stays constant.

    Args:
        history: Trials in order; those of kind `SEED` do not count as attempts.
        start: Initial step.
        least: Floor.
        most: Ceiling.
        success: Share of successes that keeps the step constant, in (0, 1).
    """
    step, best = start, -np.inf
    for trial in history:
        better = not trial.score.failed and trial.score.reward > best
        best = trial.score.reward if better else best
        if trial.kind != SEED:
            step *= np.exp(0.5 if better else -0.5 * success / (1 - success))
            step = float(np.clip(step, least, most))
    return step
