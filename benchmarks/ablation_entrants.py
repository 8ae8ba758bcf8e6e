"""The searches of the agent's ablation: `optimal`, `optimal` without one of its parts, rivals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

__all__ = [
    "CHEAP",
    "OLD_SEEDS",
    "RIVALS",
    "Recipe",
    "ablations",
    "bayesian_with_own",
    "optimal",
    "rival",
]

CHEAP = ("divergence", "knapsack", "erk", "progression", "owl")
"""Protocols without a rollout that are compared, if they are registered."""

OLD_SEEDS = ("knapsack", "lamp", "global", "erk", "heurist", "uniform")
"""What searches without own divergences score first, as in the recorded comparison."""

RIVALS = ("bayesian", "evolution", "surrogate")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One kind of search.

    Attributes:
        entrant: Name in the tables.
        protocol: What proposes: an entry of `PROTOCOLS`.
        rollouts: Rollouts in all, the profiles that need no search among them.
        own: Starts from own divergences, and has them as its curves.
        slopes: Rollouts measure slopes.
        actor: `optimal` has its actor.
        model: `optimal` has proposals by `bayesian`.
        fine_tuning: Steps of fine-tuning in a rollout.
        goals: Range of targets of one search for all; None: one target.
    """

    entrant: str
    protocol: str
    rollouts: int
    own: bool = False
    slopes: bool = False
    actor: bool = True
    model: bool = True
    fine_tuning: int = 0
    goals: str | None = None

    @property
    def slug(self) -> str:
        """Name of its files; recipes that differ have different ones."""
        parts = [self.protocol, str(self.rollouts)]
        parts += [name for name in ("own", "slopes", "actor") if getattr(self, name)]
        parts += ["model"] if self.model and self.protocol == "optimal" else []
        parts += [f"tuned{self.fine_tuning}"] if self.fine_tuning else []
        parts += [f"goals{self.goals.replace(':', '-')}"] if self.goals else []
        return "-".join(parts)


def optimal(rollouts: int, *, goals: str | None = None) -> Recipe:
    """The search as designed."""
    name = "optimal goals" if goals else "optimal"
    return Recipe(
        entrant=name, protocol="optimal", rollouts=rollouts, own=True, slopes=True, goals=goals
    )


def ablations(rollouts: int, *, no_slopes: int, no_own: int) -> tuple[Recipe, ...]:
    """`optimal` without one of its parts.

    Args:
        rollouts: Rollouts of `optimal`.
        no_slopes: Rollouts without slopes that take as long.
        no_own: Rollouts that take as long as its own and measuring own divergences.
    """

    def without(part: str, **changes: Any) -> Recipe:
        return replace(optimal(rollouts), entrant=f"optimal without {part}", **changes)

    return (
        without("actor", actor=False),
        without("model", model=False),
        without("slopes", slopes=False),
        without(f"slopes, {no_slopes} rollouts", slopes=False, rollouts=no_slopes),
        without("own divergences", own=False),
        without(f"own divergences, {no_own} rollouts", own=False, rollouts=no_own),
    )


def bayesian_with_own(rollouts: int) -> Recipe:
    """`bayesian` from the seeds of `optimal`."""
    name = "bayesian with own divergences"
    return Recipe(entrant=name, protocol="bayesian", rollouts=rollouts, own=True)


def rival(name: str, rollouts: int, *, label: str = "") -> Recipe:
    """A search as in the recorded comparison; the label is added to its name in the tables."""
    return Recipe(entrant=name + label, protocol=name, rollouts=rollouts)
