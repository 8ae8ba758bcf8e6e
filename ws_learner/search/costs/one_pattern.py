"""Each pattern alone beside the joint choice, all measured: the best score is taken.

The joint choice trusts a table of single layers. Where a network runs several layers in one call,
or its bytes alone nearly meet the budget, the table is off by more than the patterns differ, and
one pattern throughout can be better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from envs import IntArray, Score
from ws_learner.core import UserError, say
from ws_learner.search.closed_form import run_closed_form
from ws_learner.search.costs.ladder_space import LadderSpace
from ws_learner.search.costs.space import Profile

__all__ = ["Candidate", "best_candidate", "one_pattern_candidates"]

_MARGIN = 0.1
"""Of what the joint choice's reward lacks to 1. Networks that are ruined by one step of pruning
score alike, by chance, and nothing is concluded from them."""

Corrected = Callable[[LadderSpace, IntArray], tuple[Profile, list[dict[str, Any]]]]
"""The profile near ticks of a space that meets the budgets, and what was measured."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A profile within the budgets, as measured.

    Attributes:
        name: `joint`, or the pattern that all layers have.
        space: Its ladders.
        profile: One choice for each layer.
        parts: What was asked, predicted and measured.
    """

    name: str
    space: LadderSpace
    profile: Profile
    parts: list[dict[str, Any]]

    def score(self) -> Score:
        """The score of the network as it is, bytes included: patterns differ little when milder."""
        return self.space.scores.score(self.profile)


def one_pattern_candidates(
    patterns: Sequence[str],
    space: Callable[[str], LadderSpace],
    corrected: Corrected,
    *,
    share: Callable[[LadderSpace], float],
) -> list[Candidate]:
    """Allocate each pattern alone by a protocol without rollouts; those that cannot are left out.

    Args:
        patterns: Spellings.
        space: Makes the ladders of a pattern.
        corrected: Meets the budgets.
        share: Share of the cost to save, see `share_saved`.
    """
    found = []
    for pattern in patterns:
        alone = space(pattern)
        wanted = share(alone)
        if wanted <= 0:
            continue
        context = alone.at(wanted)
        name = "knapsack" if context.own() is None else "divergence"
        say(f"beside the joint choice: {pattern} in all layers")
        try:
            profile, parts = corrected(alone, run_closed_form(name, context))
        except UserError as error:
            say(f"{pattern} alone is left out: {error}")
            continue
        found.append(Candidate(name=pattern, space=alone, profile=profile, parts=parts))
    return found


def best_candidate(candidates: Sequence[Candidate]) -> tuple[Candidate, list[dict[str, Any]]]:
    """The joint choice, or the candidate that is clearly better; and what each scored.

    Args:
        candidates: The joint choice first.
    """
    scores = [one.score() for one in candidates]
    rewards = [-np.inf if one.failed else one.reward for one in scores]
    rewards[0] += _MARGIN * abs(1 - rewards[0])
    rows = [
        {"choice": one.name, "reward": score.reward, "accuracy": score.accuracy}
        for one, score in zip(candidates, scores, strict=True)
    ]
    best = candidates[int(np.argmax(rewards))]
    if best is not candidates[0]:
        say(f"{best.name} in all layers scores better than the joint choice, and is taken")
    return best, rows
