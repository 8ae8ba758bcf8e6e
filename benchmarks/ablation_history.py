"""What a finished search leaves on disk: its rollouts and what they cost."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from ws_learner.core import write_text

__all__ = ["Finished"]


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A search of N rollouts, in order. Seconds are the processor's.

    Attributes:
        kinds: Proposer of each.
        zeros: (N, L) zero counts.
        rewards: Reward of each on the search images, -inf if it failed.
        rollout_seconds: Seconds of each.
        proposal_seconds: Seconds of proposing a round, at its first rollout; 0 at the others.
        own_seconds: Seconds of measuring own divergences; 0 if they are not used.
    """

    kinds: list[str]
    zeros: list[list[int]]
    rewards: list[float]
    rollout_seconds: list[float]
    proposal_seconds: list[float]
    own_seconds: float

    def seconds(self, count: int | None = None) -> float:
        """Seconds of the first `count` rollouts, own divergences included."""
        spent = sum(self.rollout_seconds[:count]) + sum(self.proposal_seconds[:count])
        return self.own_seconds + spent

    def within(self, seconds: float) -> int:
        """Number of rollouts that fit into so many seconds."""
        return max((n for n in range(len(self.kinds) + 1) if self.seconds(n) <= seconds), default=0)

    def ranked(self, *, count: int | None = None, budget: int | None = None) -> list[int]:
        """Places of the distinct profiles among the first `count`, best first.

        Args:
            count: Number of rollouts that count; None: all.
            budget: Only those with so many zeros.
        """
        places = [
            place
            for place, zeros in enumerate(self.zeros[:count])
            if self.rewards[place] > float("-inf") and (budget is None or sum(zeros) == budget)
        ]
        order = sorted(places, key=lambda place: -self.rewards[place])
        first = {tuple(self.zeros[place]): place for place in reversed(order)}
        return sorted(first.values(), key=order.index)

    def costs(self, count: int | None = None) -> dict[str, float]:
        """Columns of a table: number of rollouts and seconds by what they were spent on."""
        parts = {
            "rollout_seconds": sum(self.rollout_seconds[:count]),
            "proposal_seconds": sum(self.proposal_seconds[:count]),
            "own_seconds": self.own_seconds,
        }
        rollouts = len(self.kinds[:count])
        return {"rollouts": rollouts} | parts | {"seconds": sum(parts.values())}

    def save(self, path: Path) -> None:
        """Write as JSON."""
        write_text(path, json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        return cls(**json.loads(path.read_text()))
