"""First parts of the agent's ablation: searches at one target, and what rivals have by then."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.ablation_entrants import Recipe, optimal
from benchmarks.ablation_history import Finished
from benchmarks.ablation_jobs import Row
from benchmarks.ablation_search import (
    config_of,
    context_of,
    evaluator_of,
    own_seconds,
    search,
    select_score,
)

__all__ = [
    "CheapJob",
    "PrefixJob",
    "RecordedJob",
    "SearchJob",
    "cheap_profile",
    "cheap_row",
    "prefix_rows",
    "recorded_row",
    "search_row",
]

_RECORDED = Path(__file__).parents[1] / "experiments/results/search_league/searches.csv"


@dataclass(frozen=True, kw_only=True)
class SearchJob:
    """One search; of its best profiles, `rescored` are scored on the select images."""

    recipe: Recipe
    target: float
    seed: int
    rescored: int
    out: Path

    @property
    def name(self) -> str:
        """Its name in the table."""
        return f"{self.recipe.entrant} ({self.recipe.rollouts}) at {self.target:g}, {self.seed}"


def search_row(job: SearchJob) -> list[Row]:
    """Search; score the best profile on the select images, and what the product would choose."""
    found, _ = search(job.recipe, job.target, job.seed, out=job.out)
    best = found.ranked(budget=_budget(job.target, found))
    tuning = job.recipe.fine_tuning
    first = tuple(found.zeros[best[0]])
    again = {place: _reward(job.seed, found, place, tuning) for place in best[: job.rescored]}
    chosen = max(again, key=lambda place: again[place], default=best[0])
    row = _row(job.recipe.entrant, job.target, job.seed) | found.costs()
    row |= {"kind": found.kinds[best[0]], "search": found.rewards[best[0]]}
    row |= _select(job.seed, first, tuning)
    row |= {"chosen_select": again.get(chosen), "chosen": _spell(found.zeros[chosen])}
    return [row | {"imported": False}]


@dataclass(frozen=True, kw_only=True)
class CheapJob:
    """A profile that takes no rollout."""

    protocol: str
    target: float
    seed: int
    out: Path

    @property
    def name(self) -> str:
        """Its name in the table."""
        return f"{self.protocol} (0) at {self.target:g}, {self.seed}"


def cheap_profile(job: CheapJob) -> tuple[tuple[int, ...], float, float]:
    """Its zeros, the processor seconds of finding them, and those of own divergences, if used."""
    from ws_learner.search import CLOSED_FORM

    evaluator = evaluator_of(job.seed)
    asked = []

    def own() -> Any:
        asked.append(True)
        return evaluator.own_divergences()

    config = config_of(optimal(1), job.target)
    context = dataclasses.replace(context_of(config, evaluator), own=own)
    evaluator.own_divergences(), evaluator.curves()
    begun = time.process_time()
    zeros = CLOSED_FORM[job.protocol](context)
    seconds = time.process_time() - begun
    return tuple(zeros.tolist()), seconds, own_seconds(job.out, job.seed) if asked else 0.0


def cheap_row(job: CheapJob) -> list[Row]:
    """Score a profile that takes no rollout on the select images."""
    zeros, seconds, own = cheap_profile(job)
    row = _row(job.protocol, job.target, job.seed) | {"rollouts": 0, "rollout_seconds": 0.0}
    row |= {"proposal_seconds": seconds, "own_seconds": own, "seconds": seconds + own}
    row |= {"kind": "cheap"} | _select(job.seed, zeros) | {"chosen": _spell(zeros)}
    return [row | {"imported": False}]


@dataclass(frozen=True, kw_only=True)
class RecordedJob(SearchJob):
    """A search that the recorded comparison has; run anew if it scores another way here."""


def recorded_row(job: RecordedJob) -> list[Row]:
    """Score the recorded profile; if the score is not the recorded one, search."""
    table = pd.read_csv(_RECORDED)
    same = (table["name"] == job.recipe.entrant) & (table["seed"] == job.seed)
    rows = table[same & (table["target"] == job.target)].to_dict("records")
    if job.recipe.rollouts == 100 and rows:
        known = rows[0]
        zeros = tuple(map(int, str(known["zeros"]).split()))
        found = _select(job.seed, zeros)
        if abs(found["select"] - known["select"]) < 1e-4:
            row = _row(job.recipe.entrant, job.target, job.seed) | {"rollouts": 100}
            row |= {"kind": known["kind"], "search": known["search"]} | found
            return [row | {"chosen": known["chosen"], "imported": True}]
    return search_row(job)


@dataclass(frozen=True, kw_only=True)
class PrefixJob:
    """What a rival has found by the rollouts, or by the processor seconds, of `optimal`."""

    recipe: Recipe
    reference: Recipe
    target: float
    seed: int
    out: Path

    @property
    def name(self) -> str:
        """Its name in the table."""
        return f"{self.recipe.entrant} until {self.reference.slug}, {self.target:g}, {self.seed}"


def prefix_rows(job: PrefixJob) -> list[Row]:
    """Two rows, part `equal rollouts` and part `equal time`; none where nothing was scored yet."""
    rival, reference = (
        Finished.load(
            job.out / "histories" / f"{recipe.slug}-{job.target}-{job.seed}/finished.json"
        )
        for recipe in (job.recipe, job.reference)
    )
    counts = {
        "equal rollouts": min(len(reference.kinds), len(rival.kinds)),
        "equal time": rival.within(reference.seconds()),
    }
    rows = []
    for part, count in counts.items():
        best = rival.ranked(count=count)
        if best:
            row: Row = {"part": part} | _row(job.recipe.entrant, job.target, job.seed)
            row |= rival.costs(count) | {"kind": rival.kinds[best[0]]}
            row |= {"search": rival.rewards[best[0]]}
            rows.append(row | _select(job.seed, tuple(rival.zeros[best[0]])))
    return rows


def _row(entrant: str, target: float, seed: int) -> Row:
    return {"entrant": entrant, "target": target, "seed": seed}


@cache
def _weights() -> int:
    from benchmarks.search_tasks import chosen_task

    return sum(row.weights for row in chosen_task().layers)


def _budget(target: float, found: Finished) -> int:
    return round(target * _weights())


def _reward(seed: int, found: Finished, place: int, tuning: int) -> float:
    return select_score(seed, tuple(found.zeros[place]), fine_tuning=tuning).reward


def _select(seed: int, zeros: tuple[int, ...], tuning: int = 0) -> Row:
    score = select_score(seed, zeros, fine_tuning=tuning)
    found: Row = {"select": score.reward, "select_accuracy": score.accuracy}
    return found | {"zeros": _spell(zeros)}


def _spell(zeros: Sequence[int]) -> str:
    return " ".join(map(str, zeros))
