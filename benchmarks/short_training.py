"""Short gradual pruning of many profiles with equal settings, one process and thread each."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from ws_learner.core import track, write_text

__all__ = ["TrainingJob", "train_all"]

_KEYS = ["name", "target", "seed", "nb_epochs", "split"]


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """One profile to train to.

    Attributes:
        name: Identifies the profile.
        zeros: (L,) zero counts.
        target: Overall prune ratio.
        seed: Order and augmentation of the images.
        nb_epochs: Length of the training, from the dense network.
        split: Where the sparse network is measured at the end.
    """

    name: str
    zeros: tuple[int, ...]
    target: float
    seed: int
    nb_epochs: float
    split: Literal["select", "test"]


def train_all(jobs: Sequence[TrainingJob], *, workers: int, table: Path) -> pd.DataFrame:
    """Train every job that the table does not hold yet, and return the whole table.

    Args:
        jobs: What to train.
        workers: Processes.
        table: CSV file, rewritten after every job, so that an interrupted call resumes.

    Returns:
        One row per job: its fields and `accuracy`.
    """
    rows: list[Any] = pd.read_csv(table).to_dict("records") if table.exists() else []
    known = {tuple(row[key] for key in _KEYS) for row in rows}
    open_ = [job for job in jobs if tuple(getattr(job, key) for key in _KEYS) not in known]
    with (
        ProcessPoolExecutor(workers, get_context("spawn"), initializer=_one_thread) as pool,
        track("training", total=len(jobs), done=len(jobs) - len(open_)) as progress,
    ):
        running = {pool.submit(_train, job): job for job in open_}
        for future in as_completed(running):
            job = running[future]
            row = {key: getattr(job, key) for key in _KEYS}
            row |= {"zeros": " ".join(map(str, job.zeros)), "accuracy": future.result()}
            rows.append(row)
            table.parent.mkdir(parents=True, exist_ok=True)
            write_text(table, pd.DataFrame(rows).to_csv(index=False))
            progress.advance(note=f"{job.name} at {job.target}: {row['accuracy']:.4f}")
    return pd.DataFrame(rows)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _train(job: TrainingJob) -> float:
    """Prune and train in a folder of its own; return the accuracy."""
    import copy

    from benchmarks.cifar_task import load_task
    from ws_learner.config import WeightSparseConfig
    from ws_learner.core import choose_device
    from ws_learner.report import MetricsLog
    from ws_learner.training import TrainingPhase, build_training_loss, evaluate, train_sparse

    task, chosen = load_task(), choose_device()
    experiment = task.experiment
    config = WeightSparseConfig(ws_prune_ratio=job.target)
    zeros = {row.name: count for row, count in zip(task.layers, job.zeros, strict=True)}
    with (
        tempfile.TemporaryDirectory() as folder,
        open(os.devnull, "w") as nowhere,
        redirect_stderr(nowhere),
    ):
        phase = TrainingPhase(
            phase="sparse",
            data=experiment.data,
            criterion=build_training_loss(experiment.loss, teacher=None, config=config),
            metric=experiment.metric,
            recipe=replace(experiment.sparse_recipe, nb_epochs=job.nb_epochs),
            compute=chosen,
            seed=job.seed,
            log=MetricsLog(Path(folder) / "metrics.csv"),
            checkpoint=Path(folder) / "sparse.pt",
        )
        network, _ = train_sparse(
            copy.deepcopy(experiment.model), zeros, phase=phase, config=config
        )
    split = experiment.data.select if job.split == "select" else experiment.data.test
    return evaluate(network, split, experiment.metric, compute=chosen)
