"""What a search asks of whoever decides: profiles to try next, given all that was tried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from envs import IntArray, Score

__all__ = ["SEED", "Proposal", "Proposer", "Stateless", "Trial", "generator", "ranked", "step_size"]

SEED = "prior"
"""Kind of the trials that a search begins with: profiles nobody had to search for."""


class Trial(Protocol):
    """One scored profile."""

    @property
    def kind(self) -> str:
        """Who proposed it."""

    @property
    def zeros(self) -> IntArray:
        """(L,) zero counts."""

    @property
    def score(self) -> Score:
        """What it scored."""


class Proposal(NamedTuple):
    """A profile to try, (L,) zero counts, and who proposes it."""

    kind: str
    zeros: IntArray


class Proposer(Protocol):
    """Decides what to try next.

    A search scores cheap profiles first (kind `SEED`), then asks again and again.
    """

    def propose(self, history: Sequence[Trial], count: int) -> list[Proposal]:
        """Return one to `count` profiles within the problem's bounds, spending its budget.

        Args:
            history: All trials so far, in order; at least one.
            count: How many may be scored before the next call.
        """

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs to go on from the last call, history aside: plain values."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from where another proposer of the same settings stood."""


class Stateless:
    """For proposers whose answers follow from seed and history alone: there is nothing to save."""

    def state(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Do nothing."""


def generator(seed: int, history: Sequence[Trial]) -> np.random.Generator:
    """Random numbers of their own for every length of the history."""
    return np.random.default_rng([seed, len(history)])


def ranked(history: Sequence[Trial]) -> list[Trial]:
    """Return different profiles that did not fail, best first; equal ones in their order.

    If every trial failed, the first one, so that a search has somewhere to start.
    """
    order = sorted(
        (trial for trial in history if not trial.score.failed),
        key=lambda trial: -trial.score.reward,
    )
    distinct: dict[bytes, Trial] = {}
    for trial in order:
        distinct.setdefault(trial.zeros.tobytes(), trial)
    return list(distinct.values()) or list(history[:1])


def step_size(
    history: Sequence[Trial], *, start: float, least: float, most: float, success: float = 0.2
) -> float:
    """Return a step that grows with every trial that beat all before it, and shrinks else.

    The one-fifth success rule (Rechenberg 1973; S. Kern et al., Natural Computing 3, 2004): where
    a share `success` of the trials improves, the step stays as it is.

    Args:
        history: Trials in order; those of kind `SEED` do not count as attempts.
        start: Step before the first attempt.
        least: Floor.
        most: Ceiling.
        success: The share of successes that is just right, in (0, 1).
    """
    step, best = start, -np.inf
    for trial in history:
        better = not trial.score.failed and trial.score.reward > best
        best = trial.score.reward if better else best
        if trial.kind != SEED:
            step *= np.exp(0.5 if better else -0.5 * success / (1 - success))
            step = float(np.clip(step, least, most))
    return step
