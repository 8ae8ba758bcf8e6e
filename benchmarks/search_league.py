"""Comparison of searches at the same number of rollouts: ResNet-20 on CIFAR-10.

    python -m benchmarks.search_league [--targets 0.9 0.95] [--seeds 3]

Every entrant gets the same problem, the same cheap profiles to start from and the same number of
rollouts. First part: the best profile of each search is scored on the 4,000 select images, which
no search has seen. Second part: what the product would choose (the best eight re-scored on the
select images) and the cheap allocations are really pruned, by equal short gradual pruning, and
measured on the test images. Entrants are compared with `surrogate` seed by seed. The same command
resumes a stopped run.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from benchmarks.cifar_task import cores, load_task
from benchmarks.paired_differences import paired_differences
from benchmarks.short_training import TrainingJob, train_all
from ws_learner.config import PROTOCOLS, WeightSparseConfig
from ws_learner.core import say, track, write_text

if TYPE_CHECKING:
    from agents import Proposer
    from envs import AllocationProblem, IntArray, Score
    from ws_learner.search import AllocationContext, RolloutEvaluator

__all__ = ["ABLATIONS", "ENTRANTS", "Entry", "Options", "main"]

ENTRANTS = ("surrogate", "bayesian", "evolution", "random")
ABLATIONS = ("surrogate without agent", "ddpg")
TRAINED = ("uniform", "lamp", "knapsack", "bayesian", "surrogate")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Comparison of the searches.

    Attributes:
        targets: Overall prune ratios.
        seeds: Searches of each kind; every seed has its own search images.
        ablation_seeds: The same for `surrogate` without its agent and the agent alone.
        rollouts: Rollouts of a search, the cheap profiles among them.
        train_seeds: How many of the seeds are pruned and trained; 0 leaves that part out.
        nb_epochs: Epochs of gradual pruning.
        workers: Processes, one thread each; 0: one per core.
        out: Folder of the tables.
    """

    targets: tuple[float, ...] = (0.9, 0.95)
    seeds: int = 3
    ablation_seeds: int = 1
    rollouts: int = 100
    train_seeds: int = 2
    nb_epochs: float = 1.0
    workers: int = 0
    out: Path = Path("runs/search_league")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One search; of its best profiles, `rescored` are scored on the select images."""

    name: str
    target: float
    seed: int
    rollouts: int
    rescored: int
    out: Path

    @property
    def folder(self) -> Path:
        """Where the search keeps its state."""
        return self.out / "searches" / f"{self.name.replace(' ', '-')}-{self.target}-{self.seed}"


def main(options: Options) -> None:
    """Search, compare; train, compare."""
    workers = options.workers or cores()
    searched = _search_all(options, workers)
    print("\nBest profile of each search, reward on the select images:\n")
    _report(searched, "select", options.out / "search.csv")
    if options.train_seeds:
        trained = _train_all(options, searched, workers)
        print(f"\nTest accuracy after {options.nb_epochs:g} epochs of gradual pruning:\n")
        _report(trained, "accuracy", options.out / "training.csv")


def _report(rows: pd.DataFrame, column: str, path: Path) -> None:
    table = paired_differences(rows, column, reference="surrogate")
    write_text(path, table.to_csv(index=False, float_format="%.5f"))
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4f}"))


def _search_all(options: Options, workers: int) -> pd.DataFrame:
    """One row per search and for the cheap profiles it began with."""
    path = options.out / "searches.csv"
    rows: list[Any] = pd.read_csv(path).to_dict("records") if path.exists() else []
    known = {(row["name"], row["target"], row["seed"]) for row in rows}
    entries = [
        Entry(
            name=name,
            target=target,
            seed=seed,
            rollouts=options.rollouts,
            rescored=8 if name in TRAINED and seed < options.train_seeds else 1,
            out=options.out,
        )
        for seed in range(options.seeds)
        for target in options.targets
        for name in (*ENTRANTS, *(ABLATIONS if seed < options.ablation_seeds else ()))
    ]
    open_ = [entry for entry in entries if (entry.name, entry.target, entry.seed) not in known]
    with (
        ProcessPoolExecutor(workers, get_context("spawn"), initializer=_quiet) as pool,
        track("searches", total=len(entries), done=len(entries) - len(open_)) as progress,
    ):
        for future in as_completed([pool.submit(_search, entry) for entry in open_]):
            rows += future.result()
            options.out.mkdir(parents=True, exist_ok=True)
            write_text(path, pd.DataFrame(rows).to_csv(index=False))
            last = rows[-1]
            progress.advance(
                note=f"{last['name']} at {last['target']}, seed {last['seed']}: "
                f"{last['select']:.4f}"
            )
    return pd.DataFrame(rows)


def _quiet() -> None:
    import torch

    torch.set_num_threads(1)


@cache
def _evaluators(seed: int) -> tuple[RolloutEvaluator, RolloutEvaluator]:
    """Scores on the search images of a seed, and on the select images."""
    task = load_task()
    evaluator = task.evaluator(WeightSparseConfig(), seed=seed)
    return evaluator, evaluator.on(task.experiment.data.select)


def _search(entry: Entry) -> list[dict[str, Any]]:
    """Run one search; the `surrogate` entry also reports on the cheap profiles."""
    from ws_learner.search import CLOSED_FORM, Search, best, build_pruning_problem, distinct_best

    config = WeightSparseConfig(
        ws_prune_ratio=entry.target,
        ws_nb_rlouts=entry.rollouts,
        ws_nb_rlouts_min=min(WeightSparseConfig.ws_nb_rlouts_min, entry.rollouts),
    )
    evaluator, select = _evaluators(entry.seed)
    context = load_task().context(config, evaluator)
    starts = [name for name, protocol in PROTOCOLS.items() if protocol.starts_search]
    begun = time.monotonic()

    def evaluate(candidates: Sequence[IntArray]) -> list[Score]:
        return [evaluator.score(zeros) for zeros in candidates]

    problem = build_pruning_problem(evaluator, config, evaluate=evaluate)
    entry.folder.mkdir(parents=True, exist_ok=True)
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        history = Search(
            problem=problem,
            proposer=_proposer(entry, problem, config),
            seeds={name: CLOSED_FORM[name](context) for name in reversed(starts)},
            rollouts=entry.rollouts,
            per_round=config.ws_rlouts_per_round,
            state=entry.folder / "search.pt",
            table=entry.folder / "rollouts.csv",
        ).run()
    seconds = time.monotonic() - begun
    cheap = _cheap_rows(entry, context, select) if entry.name == "surrogate" else []
    winner = best(history)
    finalists = distinct_best(history, entry.rescored)
    again = [select.score(rollout.zeros) for rollout in finalists]
    chosen = max(range(len(again)), key=lambda place: again[place].reward)
    return [
        *cheap,
        _row(entry, winner.zeros, again[0])
        | {"search": winner.score.reward, "kind": winner.kind, "seconds": round(seconds, 1)}
        | {"chosen": " ".join(map(str, finalists[chosen].zeros.tolist()))},
    ]


def _cheap_rows(
    entry: Entry, context: AllocationContext, select: RolloutEvaluator
) -> list[dict[str, Any]]:
    from ws_learner.search import CLOSED_FORM

    rows = []
    for name, protocol in CLOSED_FORM.items():
        zeros = protocol(context)
        row = _row(dataclasses.replace(entry, name=name), zeros, select.score(zeros))
        rows.append(row | {"kind": "cheap", "seconds": 0.0, "chosen": row["zeros"]})
    return rows


def _row(entry: Entry, zeros: IntArray, score: Score) -> dict[str, Any]:
    return {
        "name": entry.name,
        "target": entry.target,
        "seed": entry.seed,
        "select": score.reward,
        "select_accuracy": score.accuracy,
        "zeros": " ".join(map(str, zeros.tolist())),
    }


def _proposer(entry: Entry, problem: AllocationProblem, config: WeightSparseConfig) -> Proposer:
    from agents import DDPGConfig, SurrogateSearch
    from ws_learner.search import build_proposer

    if entry.name != "surrogate without agent":
        name: Any = entry.name
        named = dataclasses.replace(config, ws_prune_ratio_prtl=name)
        return build_proposer(problem, named, agent=DDPGConfig(), seed=entry.seed)
    make: Callable[..., Proposer] = partial(SurrogateSearch, config=DDPGConfig(), walks=0)
    return make(
        problem, seed=entry.seed, rollouts=entry.rollouts, rollouts_min=config.ws_nb_rlouts_min
    )


def _train_all(options: Options, searched: pd.DataFrame, workers: int) -> pd.DataFrame:
    wanted = searched[searched["name"].isin(TRAINED) & (searched["seed"] < options.train_seeds)]
    jobs = [
        TrainingJob(
            name=str(row["name"]),
            zeros=tuple(map(int, str(row["chosen"]).split())),
            target=float(row["target"]),
            seed=int(row["seed"]),
            nb_epochs=options.nb_epochs,
            split="test",
        )
        for row in wanted.to_dict("records")
    ]
    return train_all(jobs, workers=workers, table=options.out / "trained.csv")


if __name__ == "__main__":
    import tyro

    say("comparison: searches first, then training; to resume a stopped run, repeat the command")
    main(tyro.cli(Options, description=__doc__))
