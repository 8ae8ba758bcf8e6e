"""Parts of the agent's ablation that train: profiles compared by test accuracy, fine-tuning."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd

from benchmarks.ablation_entrants import optimal
from benchmarks.ablation_jobs import Row
from benchmarks.ablation_search import evaluator_of
from benchmarks.ablation_searches import CheapJob, SearchJob, cheap_profile, search_row
from benchmarks.short_training import TrainingJob
from ws_learner.core import write_text

__all__ = ["AGAIN", "TRAINED", "TunedJob", "noise_of_training", "training_jobs", "tuned_row"]

TRAINED = ("divergence", "knapsack", "uniform", "erk")
"""Protocols without a rollout whose profiles are trained beside those of `optimal`."""

AGAIN = "divergence again"
"""Entrant of the repeated trainings of one profile."""

_REPEATS = (100, 101)
_FEWEST = 8
_TIMES = 2


@dataclass(frozen=True, kw_only=True)
class TunedJob:
    """`optimal` with fine-tuning in its rollouts, and as many rollouts as fit into the same time.

    Attributes:
        steps: Steps of fine-tuning.
        rollouts: Rollouts without fine-tuning.
        target: Overall prune ratio.
        seed: Seed of search images and search.
        rescored: Number of finalists.
        out: Folder of the benchmark.
    """

    steps: int
    rollouts: int
    target: float
    seed: int
    rescored: int
    out: Path

    @property
    def entrant(self) -> str:
        """Its name in the tables."""
        return f"optimal, {self.steps} fine-tuning steps"

    @property
    def name(self) -> str:
        """Its name in the table."""
        return f"{self.entrant} (time of {self.rollouts}) at {self.target:g}, {self.seed}"


def tuned_row(job: TunedJob) -> list[Row]:
    """Measure how many rollouts fit, search and choose."""
    recipe = replace(optimal(_fitting(job)), entrant=job.entrant, fine_tuning=job.steps)
    return search_row(
        SearchJob(
            recipe=recipe, target=job.target, seed=job.seed, rescored=job.rescored, out=job.out
        )
    )


def _fitting(job: TunedJob) -> int:
    """Rollouts that take as long as those without fine-tuning; measured once."""
    path = job.out / "own" / f"tuned{job.steps}-{job.rollouts}-{job.target}-{job.seed}.json"
    if not path.exists():
        import numpy as np

        cheap = CheapJob(protocol="divergence", target=job.target, seed=job.seed, out=job.out)
        zeros = np.array(cheap_profile(cheap)[0], dtype=np.int64)
        seconds = []
        for steps in (0, job.steps):
            evaluator = evaluator_of(job.seed, slopes=True, fine_tuning=steps)
            evaluator.score(zeros)
            begun = time.process_time()
            for _ in range(_TIMES):
                evaluator.score(zeros)
            seconds.append(time.process_time() - begun)
        path.parent.mkdir(parents=True, exist_ok=True)
        fitting = max(_FEWEST, int(job.rollouts * seconds[0] / seconds[1]))
        write_text(path, json.dumps(fitting))
    return int(json.loads(path.read_text()))


def training_jobs(
    rows: pd.DataFrame, *, nb_epochs: float, repeated: Sequence[float] = ()
) -> list[TrainingJob]:
    """Trainings of the chosen profiles, and two more of one profile for the noise of training.

    Args:
        rows: Columns entrant, target, seed, chosen.
        nb_epochs: Epochs of gradual pruning.
        repeated: Targets at which the profile of `divergence`, seed 0, is trained two more times.
    """
    test: Literal["test"] = "test"
    jobs = [
        TrainingJob(
            name=str(row["entrant"]),
            zeros=tuple(map(int, str(row["chosen"]).split())),
            target=float(row["target"]),
            seed=int(row["seed"]),
            nb_epochs=nb_epochs,
            split=test,
        )
        for row in rows.to_dict("records")
    ]
    first = [job for job in jobs if job.name == "divergence" and job.seed == 0]
    more = [
        replace(job, name=AGAIN, seed=seed)
        for job in first
        if job.target in repeated
        for seed in _REPEATS
    ]
    return [*more, *jobs]


def noise_of_training(trained: pd.DataFrame) -> pd.DataFrame:
    """Standard deviation of the accuracy over trainings of the same profile, by target."""
    first = (trained["name"] == "divergence") & (trained["seed"] == 0)
    same = trained[first | (trained["name"] == AGAIN)]
    found = same.groupby("target")["accuracy"].agg(["count", "mean", "std"])
    return found.reset_index()
