"""Rank correlation of rollout scores with trained accuracy: ResNet-20 on CIFAR-10.

    python -m benchmarks.reward_quality [--target 0.95] [--profiles 32]

Profiles are drawn around the cheap allocations: each of those itself, then random ones with
logit-densities that are a convex mixture of theirs (weights from a Dirichlet distribution with
parameter 1/2) plus normal noise of a spread drawn from 0.1, 0.25, 0.5, projected onto the budget.
Every profile is scored in several ways, all of them without training, and then really pruned, by
equal short gradual pruning from the dense network; the Spearman correlation between the two says
what the score is worth. The same command resumes a stopped run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks.cifar_task import cores, load_task
from benchmarks.short_training import TrainingJob, train_all
from ws_learner.config import PROTOCOLS, WeightSparseConfig
from ws_learner.core import say, track, write_text

if TYPE_CHECKING:
    from benchmarks.cifar_task import Task
    from envs import IntArray
    from ws_learner.search import RolloutEvaluator

__all__ = ["SCORES", "Options", "correlations", "draw_around", "draw_profiles", "main"]

OVERALL, TOP_HALF = 0.85, 0.6

_AS_IT_IS = {"ws_score_power": 1.0}
SCORES: dict[str, dict[str, Any]] = {
    "as it is: magnitude": _AS_IT_IS | {"ws_rg_solver": "none", "ws_nb_smpls_bn": 0},
    "as it is: + batch norm": _AS_IT_IS | {"ws_rg_solver": "none"},
    "as it is: + regression": _AS_IT_IS,
    "as it is: + 2 steps of fine-tuning": _AS_IT_IS | {"ws_nb_iters_ft": 2},
    "as it is: + 10 steps of fine-tuning": _AS_IT_IS | {"ws_nb_iters_ft": 10},
    "milder: magnitude": {"ws_rg_solver": "none", "ws_nb_smpls_bn": 0},
    "milder: + batch norm": {"ws_rg_solver": "none"},
    "milder: + regression (default)": {},
    "milder: + 2 steps of fine-tuning": {"ws_nb_iters_ft": 2},
}
"""What a rollout does before it is scored: settings that differ from the default.

`milder`: all densities are scaled by one factor first, see `--ws_score_power`.
"""
_DEFAULT = "milder: + regression (default)"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Correlation of scores with accuracy after training.

    Attributes:
        target: Overall prune ratio.
        profiles: How many are drawn, the cheap allocations among them.
        nb_epochs: Epochs of gradual pruning.
        seed: Of the draw and the training.
        workers: Processes, one thread each; 0: one per core.
        out: Folder of the tables.
    """

    target: float = 0.95
    profiles: int = 32
    nb_epochs: float = 1.0
    seed: int = 0
    workers: int = 0
    out: Path = Path("runs/reward_quality")


def main(options: Options) -> None:
    """Draw, score, train, correlate."""
    workers = options.workers or cores()
    names, profiles = draw_profiles(options)
    scores = _scores(options, names, profiles, workers=workers)
    jobs = [
        TrainingJob(
            name=name,
            zeros=tuple(zeros.tolist()),
            target=options.target,
            seed=options.seed,
            nb_epochs=options.nb_epochs,
            split="select",
        )
        for name, zeros in zip(names, profiles, strict=True)
    ]
    trained = train_all(jobs, workers=workers, table=options.out / "trained.csv")
    trained = trained.set_index("name").loc[names]
    table = correlations(scores, trained["accuracy"].to_numpy())
    text = table.to_string(index=False, float_format=lambda value: f"{value:.3f}")
    write_text(options.out / "correlations.csv", table.to_csv(index=False, float_format="%.4f"))
    print(text)
    chosen = table[table["score"] == _DEFAULT]
    kl = chosen[chosen["signal"] == "kl"].iloc[0]
    for column, least in (("all", OVERALL), ("top half", TOP_HALF)):
        met = "met" if kl[column] >= least else "MISSED"
        print(f"default reward, {column}: {kl[column]:.3f} (at least {least}: {met})")


def draw_profiles(options: Options) -> tuple[list[str], list[IntArray]]:
    """Names and zero counts; see the module."""
    task = load_task()
    config = WeightSparseConfig(ws_prune_ratio=options.target)
    return draw_around(
        task, config, task.evaluator(config), count=options.profiles, seed=options.seed
    )


def draw_around(
    task: Task, config: WeightSparseConfig, evaluator: RolloutEvaluator, *, count: int, seed: int
) -> tuple[list[str], list[IntArray]]:
    """Names and zero counts of `count` profiles around the cheap ones; see the module."""
    from agents import LogitSpace
    from ws_learner.search import CLOSED_FORM, build_pruning_problem

    context = task.context(config, evaluator)
    starts = [name for name, protocol in PROTOCOLS.items() if protocol.starts_search]
    cheap = {name: CLOSED_FORM[name](context) for name in starts}
    space = LogitSpace(build_pruning_problem(evaluator, config, evaluate=lambda _: []))
    points = space.encode(np.stack(list(cheap.values())))
    rng = np.random.default_rng(seed)
    profiles = dict(list(cheap.items())[:count])
    for number in range(count - len(profiles)):
        mixed = rng.dirichlet(np.full(len(points), 0.5)) @ points
        spread = rng.choice([0.1, 0.25, 0.5])
        settled = space.settle(mixed + spread * rng.normal(size=space.size))
        around, moving = cheap["uniform"], np.arange(space.size)
        profiles[f"random-{number}"] = space.decode(settled, around=around, moving=moving)
    return list(profiles), list(profiles.values())


def _scores(
    options: Options, names: list[str], profiles: list[IntArray], *, workers: int
) -> pd.DataFrame:
    """One row per profile and way of scoring: accuracy and reward by divergence."""
    from ws_learner.search import LocalPool

    path = options.out / "scores.csv"
    wanted = len(names) * len(SCORES)
    rows: list[Any] = pd.read_csv(path).to_dict("records") if path.exists() else []
    with track("scoring", total=wanted, done=len(rows)) as progress:
        for score, changes in SCORES.items():
            if any(row["score"] == score for row in rows):
                continue
            config = WeightSparseConfig(ws_prune_ratio=options.target, **changes)
            with LocalPool(load_task().evaluator(config), workers=workers) as pool:
                results = pool.evaluate(profiles)
            for name, result in zip(names, results, strict=True):
                row = {"score": score, "profile": name, "accuracy": result.accuracy}
                rows.append(row | {"kl": result.reward, "seconds": round(result.seconds, 3)})
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, pd.DataFrame(rows).to_csv(index=False))
            progress.advance(len(names))
    return pd.DataFrame(rows)


def correlations(scores: pd.DataFrame, trained: Any) -> pd.DataFrame:
    """Spearman correlation of each score with the trained accuracy.

    Args:
        scores: Columns score, profile, accuracy, kl, seconds; profiles in the order of `trained`.
        trained: (N,) accuracy after training.

    Returns:
        Columns score, signal, all, `top half` (the half of the profiles that trained best), and
        the median seconds of a rollout.
    """
    from scipy.stats import spearmanr

    top = np.argsort(-np.asarray(trained), kind="stable")[: len(trained) // 2]
    rows = []
    for score, part in scores.groupby("score", sort=False):
        for signal in ("accuracy", "kl"):
            values = part[signal].to_numpy()
            rows.append(
                {
                    "score": score,
                    "signal": signal,
                    "all": float(spearmanr(values, trained).statistic),
                    "top half": float(spearmanr(values[top], trained[top]).statistic),
                    "seconds": float(part["seconds"].median()),
                }
            )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    import tyro

    say("reward quality: minutes of scoring, then training; repeat the command to resume")
    main(tyro.cli(Options, description=__doc__))
