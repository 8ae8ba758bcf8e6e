"""One search for all targets in the agent's ablation: what it emits for each, and who supplied it.

A search over goals emits the profile that its critic likes best. Candidates come from the actor,
from minimising the critic, from a known profile brought to the target, and from the prior.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks.ablation_entrants import Recipe
from benchmarks.ablation_jobs import Row
from benchmarks.ablation_search import search, select_score

__all__ = ["GoalsJob", "goals_rows", "seconds_of_frontier"]


@dataclass(frozen=True, kw_only=True)
class GoalsJob:
    """One search over goals.

    Attributes:
        recipe: The search.
        own_target: Target to which the last quarter of its rollouts goes.
        targets: What it is asked for afterwards.
        seed: Seed of search images and search.
        out: Folder of the benchmark.
    """

    recipe: Recipe
    own_target: float
    targets: tuple[float, ...]
    seed: int
    out: Path

    @property
    def name(self) -> str:
        """Its name in the table."""
        asked = " ".join(f"{target:g}" for target in self.targets)
        return f"{self.recipe.entrant} ({self.recipe.rollouts}) for {asked}, {self.seed}"


def goals_rows(job: GoalsJob) -> list[Row]:
    """Search; for each target a row of the emitted profile and one of each supplier's candidate.

    Rollouts and their seconds are those of the whole search, divided by the number of targets.
    """
    from agents import GoalSearch

    found, proposer = search(job.recipe, job.own_target, job.seed, out=job.out)
    assert isinstance(proposer, GoalSearch)
    shared = {"rollouts", "rollout_seconds", "proposal_seconds"}
    costs = {
        key: value / len(job.targets) if key in shared else value
        for key, value in found.costs().items()
        if key != "seconds"
    }
    rows: list[Row] = []
    for target in job.targets:
        emitted = proposer.policy.emit(target)
        entrants = [job.recipe.entrant, *(f"{job.recipe.entrant}: {e.supplier}" for e in emitted)]
        for entrant, one in zip(entrants, [emitted[0], *emitted], strict=True):
            score = select_score(job.seed, tuple(one.zeros.tolist()))
            row = {"entrant": entrant, "target": target, "seed": job.seed} | costs
            row |= {"kind": one.supplier, "predicted": one.divergence}
            row |= {"select": score.reward, "divergence": score.divergence}
            rows.append(row | {"zeros": " ".join(map(str, one.zeros.tolist()))})
    return rows


def seconds_of_frontier(rows: pd.DataFrame) -> pd.DataFrame:
    """Rollouts and processor seconds of each entrant for all targets, mean over seeds.

    Own divergences count once for all targets.
    """
    sums = rows.groupby(["entrant", "seed"], sort=False).agg(
        rollouts=("rollouts", "sum"),
        rollout_seconds=("rollout_seconds", "sum"),
        proposal_seconds=("proposal_seconds", "sum"),
        own_seconds=("own_seconds", "max"),
    )
    sums["seconds"] = sums.drop(columns="rollouts").sum(axis=1)
    return sums.groupby("entrant", sort=False).mean().reset_index()
