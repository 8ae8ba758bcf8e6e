"""One long search: the proposer's time per round, memory and sizes, every 50 rollouts."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.process_readings import resident
from benchmarks.readings_file import ReadingsFile

if TYPE_CHECKING:
    from agents import Proposal, Proposer, Trial
    from benchmarks.long_options import Options
    from envs import IntArray, Score

__all__ = ["run_search"]

_STEP = 50


def run_search(protocol: str, options: Options) -> None:
    """Search until the rollouts or the minutes are used up; note every 50 rollouts."""
    import torch

    from agents import DDPGConfig
    from benchmarks.small_task import build_small_task, small_evaluator, small_settings
    from ws_learner.search import (
        Search,
        build_proposer,
        build_pruning_problem,
        seed_profiles,
    )

    torch.set_num_threads(1)
    config = small_settings(protocol, ws_nb_rlouts=options.rollouts)
    evaluator = small_evaluator(build_small_task(), config)
    folder = options.work / protocol
    folder.mkdir(parents=True, exist_ok=True)
    watch = _Watch(folder, ReadingsFile(options.out / f"search_{protocol}.csv"))

    def score(candidates: Sequence[IntArray]) -> list[Score]:
        begun = time.process_time()
        scores = [evaluator.score(zeros) for zeros in candidates]
        watch.scoring += time.process_time() - begun
        return scores

    problem = build_pruning_problem(evaluator, config, evaluate=score)
    watch.proposer = build_proposer(problem, config, agent=DDPGConfig(), seed=0)
    search = Search(
        problem=problem,
        proposer=watch,
        seeds=seed_profiles(evaluator.context(config)),
        rollouts=options.rollouts,
        per_round=config.ws_rlouts_per_round,
        state=folder / "search.pt",
        table=folder / "rollouts.csv",
        rewarded=evaluator.rewarded(),
        seconds=options.minutes * 60,
    )
    history = search.run()
    watch.note(len(history))


class _Watch:
    """Proposer that hands on to another and notes what it takes."""

    proposer: Proposer

    def __init__(self, folder: Path, file: ReadingsFile) -> None:
        self._folder, self._file = folder, file
        self._next = int(file.last("rollouts")) + _STEP
        self.scoring = 0.0
        self._begin()

    def _begin(self) -> None:
        self._rounds, self._wall, self._processor, self.scoring = 0, 0.0, 0.0, 0.0
        self._begun = time.process_time()

    def propose(self, history: Sequence[Trial], count: int) -> list[Proposal]:
        """Hand on, on the clock."""
        if len(history) >= self._next and self._rounds:
            self.note(len(history))
        wall, processor = time.perf_counter(), time.process_time()
        found = self.proposer.propose(history, count)
        self._wall += time.perf_counter() - wall
        self._processor += time.process_time() - processor
        self._rounds += 1
        return found

    def note(self, rollouts: int) -> None:
        """Write a row about the rounds since the last one."""
        if not self._rounds or rollouts < self._next:
            return
        rounds, spent = self._rounds, time.process_time() - self._begun
        self._file.add(
            {
                "rollouts": rollouts,
                "proposer_s": round(self._processor / rounds, 4),
                "proposer_wall_s": round(self._wall / rounds, 4),
                "scoring_s": round(self.scoring / rounds, 4),
                "saving_s": round((spent - self._processor - self.scoring) / rounds, 4),
                "rss_mib": round(resident(os.getpid()), 1),
                "search_pt_kib": round((self._folder / "search.pt").stat().st_size / 1024, 1),
                "rollouts_csv_kib": round((self._folder / "rollouts.csv").stat().st_size / 1024, 1),
            }
        )
        self._next = rollouts - rollouts % _STEP + _STEP
        self._begin()

    def state(self) -> dict[str, Any]:
        """The proposer's."""
        return self.proposer.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Hand on; what was noted after the last saved round is noted again."""
        self.proposer.restore(state)
