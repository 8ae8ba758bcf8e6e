"""The joint choice beside one or two patterns alone: all are trained a little, the best is taken.

The joint choice trusts errors of single layers before any training, and a table of their times.
After training the order of patterns can be another one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from envs import IntArray
from ws_learner.core import UserError, say, track
from ws_learner.search.closed_form import run_closed_form
from ws_learner.search.costs.ladder_space import LadderSpace
from ws_learner.search.costs.space import Profile

__all__ = ["Candidate", "Contest"]

_JOINT = "joint"
_PAIRED = 3  # of the best single patterns

Corrected = Callable[[LadderSpace, IntArray], tuple[Profile, list[dict[str, Any]]]]
"""The profile near ticks of a space that meets the budgets, and what was measured."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A profile within the budgets, as measured.

    Attributes:
        name: `joint`, or the patterns that its layers may have.
        profile: One choice for each layer.
        parts: What was asked, predicted and measured.
        loss: Of its network after a short training; lower is better.
    """

    name: str
    profile: Profile
    parts: list[dict[str, Any]]
    loss: float


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Compares profiles of few patterns with the joint choice.

    Attributes:
        patterns: Spellings.
        space: Makes the ladders of some patterns.
        corrected: Meets the budgets.
        share: Share of the cost to save, see `share_saved`.
        loss: Of a profile's network after a short training.
    """

    patterns: Sequence[str]
    space: Callable[[Collection[str]], LadderSpace]
    corrected: Corrected
    share: Callable[[LadderSpace], float]
    loss: Callable[[Profile], float]

    def best(
        self, joint: Callable[[], tuple[Profile, list[dict[str, Any]]]]
    ) -> tuple[Candidate, list[dict[str, Any]]]:
        """The best of the joint choice, each pattern alone, and pairs of the best three of them.

        Args:
            joint: Makes the joint choice within the budgets.

        Returns:
            The best, and name and loss of all.

        Raises:
            UserError: The joint choice meets no budget, and no other does.
        """
        every, missed = list[Candidate](), None
        try:
            profile, parts = joint()
            loss = self.loss(profile)
            every = [Candidate(name=_JOINT, profile=profile, parts=parts, loss=loss)]
        except UserError as error:
            missed = error
            say(f"the joint choice is left out: {error}")
        alone = self._candidates(((name,) for name in self.patterns), every)
        every += alone
        ranked = sorted(alone, key=lambda one: one.loss)[:_PAIRED]
        if len(self.patterns) > 2:
            every += self._candidates(combinations((one.name for one in ranked), 2), every)
        if missed is not None and not every:
            raise missed
        best = min(every, key=lambda one: one.loss)
        if best.name != _JOINT:
            say(f"{best.name} is better than the joint choice after a short training, and is taken")
        return best, [{"choice": one.name, "loss": round(one.loss, 6)} for one in every]

    def _candidates(
        self, sets: Iterable[Collection[str]], known: Sequence[Candidate]
    ) -> list[Candidate]:
        """Allocate sets of patterns without rollouts; those that meet no budget are left out."""
        found, every = list[Candidate](), list(sets)
        with track("few patterns", total=len(every)) as progress:
            for patterns in every:
                one = self._candidate(patterns, {one.profile for one in (*known, *found)})
                found += [] if one is None else [one]
                progress.advance(note=" and ".join(patterns))
        return found

    def _candidate(self, patterns: Collection[str], known: set[Profile]) -> Candidate | None:
        space, name = self.space(patterns), " and ".join(patterns)
        wanted = self.share(space)
        if wanted <= 0:
            return None
        context = space.at(wanted)
        protocol = "knapsack" if context.own() is None else "divergence"
        say(f"beside the joint choice: {name}")
        try:
            profile, parts = self.corrected(space, run_closed_form(protocol, context))
        except UserError as error:
            say(f"{name} is left out: {error}")
            return None
        if profile in known:
            return None
        return Candidate(name=name, profile=profile, parts=parts, loss=self.loss(profile))
