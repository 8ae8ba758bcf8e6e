"""Options of the agent's ablation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from benchmarks.search_tasks import TaskName
from ws_learner.core import UserError

__all__ = ["PARTS", "Options", "Part", "refuse"]

Part = Literal["searches", "equal_time", "frontier", "training", "finetuning"]
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Ablations of `optimal`.

    Attributes:
        network: Network and data, see `benchmarks.search_tasks`. `training` and `finetuning` train
            `resnet20` only.
        entrants: Names of the searches of part `searches`; empty for all. The names are those of
            the tables.
        parts: What is run and reported, in this order; `equal_time` needs `searches`.
        targets: Overall prune ratios of `searches` and `equal_time`.
        seeds: Searches of each kind; every seed has its own search images.
        slope_rollouts: Rollouts of `optimal`.
        equal_rollouts: Rollouts without slopes that take as long.
        without_own_rollouts: Rollouts with slopes that take as long as those of `optimal` and
            measuring own divergences.
        rival_rollouts: Rollouts of the other searches.
        rescored: Best profiles of a search that are scored again on the select images, of which
            the best is what the product would choose; 0: none is.
        goals: Range of targets of the search for all.
        goal_rollouts: Its rollouts.
        goal_target: Its own target.
        frontier_targets: What it is asked for; other searches share their rollouts among these.
        each_seeds: Seeds of the other searches with all their rollouts for each of these targets.
        train_targets: Overall prune ratios of `training`.
        train_seeds: Profiles and trainings of each kind.
        nb_epochs: Epochs of gradual pruning.
        tuning_steps: Steps of fine-tuning in a rollout, beside none.
        tuning_target: Overall prune ratio of `finetuning`.
        workers: Processes, one thread each; 0: one per core.
        out: Folder of the tables.
    """

    network: TaskName = "resnet20"
    entrants: tuple[str, ...] = ()
    parts: tuple[Part, ...] = PARTS
    targets: tuple[float, ...] = (0.9, 0.95)
    seeds: int = 3
    slope_rollouts: int = 27
    equal_rollouts: int = 38
    without_own_rollouts: int = 51
    rival_rollouts: int = 100
    rescored: int = 8
    goals: str = "0.75:0.985"
    goal_rollouts: int = 48
    goal_target: float = 0.95
    frontier_targets: tuple[float, ...] = (0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98)
    each_seeds: int = 1
    train_targets: tuple[float, ...] = (0.95, 0.98)
    train_seeds: int = 5
    nb_epochs: float = 1.0
    tuning_steps: tuple[int, ...] = (10, 30)
    tuning_target: float = 0.95
    workers: int = 0
    out: Path = Path("runs/agent_ablation")


def refuse(options: Options) -> None:
    """Refuse what cannot be measured, before hours are spent.

    Raises:
        UserError: A part that trains, on another network than `resnet20`.
    """
    trains = [part for part in options.parts if part in ("training", "finetuning")]
    if trains and options.network != "resnet20":
        raise UserError(
            f"`network` {options.network!r}: {' and '.join(trains)} train resnet20 only; leave "
            "them out of `parts`"
        )
