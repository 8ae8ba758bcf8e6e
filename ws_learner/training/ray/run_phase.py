"""A training phase on Ray: ranks train to the last checkpoint, the driver reads it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from torch import nn

from ws_learner.config import ClusterConfig
from ws_learner.core import STATE_REMEDY, ProcessGroup, UserError, load_state_file, reading
from ws_learner.report import MetricsLog
from ws_learner.training.not_finite import refuse_broken_inputs
from ws_learner.training.phase import TrainingPhase
from ws_learner.training.ray.follow_metrics import followed
from ws_learner.training.ray.session import ray_session
from ws_learner.training.ray.train_loop import train_on_ray

__all__ = ["run_phase"]

T = TypeVar("T")


@dataclass(frozen=True)
class _AsRank:
    """Runs a phase as one rank."""

    run: Callable[[TrainingPhase], object]
    phase: TrainingPhase

    def __call__(self, process_group: ProcessGroup) -> None:
        phase = replace(self.phase, process_group=process_group)
        if process_group.rank == 0:  # keep the rows of an earlier attempt
            phase = replace(phase, log=MetricsLog(phase.log.path))
        with warnings.catch_warnings():  # the driver repeats them
            warnings.simplefilter("ignore", UserWarning)
            self.run(phase)


def run_phase(
    run: Callable[[TrainingPhase], T],
    phase: TrainingPhase,
    *,
    model: nn.Module,
    cluster: ClusterConfig | None,
) -> T:
    """Return `run(phase)`; with a cluster, ranks on Ray train first.

    The same function runs on the ranks and here. The ranks train up to the last checkpoint; the
    run here then only reads it. A phase can therefore be started on Ray and finished locally or
    with another number of ranks, and vice versa.

    Args:
        run: Function that runs a phase to its end, such as a partial of `train_sparse`; it must
            be picklable.
        phase: The training phase.
        model: The network that `run` trains.
        cluster: Cluster settings; None trains locally.

    Raises:
        UserError: Invalid input, too few machines, or the training has diverged.
    """
    if cluster is not None:
        with ray_session(cluster):
            _on_ray(run, phase, model=model, config=cluster)
    result = run(phase)
    refuse_diverged(model, phase)
    return result


def refuse_diverged(model: nn.Module, phase: TrainingPhase) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        UserError: There are some; the message names the first.
    """
    broken = [name for name, value in model.named_parameters() if not bool(value.isfinite().all())]
    if broken:
        refuse_broken_inputs(phase.data.train, "train")
        raise UserError(
            f"the {phase.phase} training has diverged: {broken[0]} and {len(broken) - 1} other "
            f"tensors are not finite; lower `lrn_rate` {phase.recipe.lrn_rate:g} or give "
            "`clip_norm`, and start in another run directory"
        )


def _on_ray(
    run: Callable[[TrainingPhase], object],
    phase: TrainingPhase,
    *,
    model: nn.Module,
    config: ClusterConfig,
) -> None:
    if phase.checkpoint.exists():
        state = load_state_file(phase.checkpoint)
        with reading(phase.checkpoint, STATE_REMEDY):
            step = int(state["step"])
        if step >= phase.recipe.total_steps(len(phase.data.train)):
            return
    data = replace(phase.data, search=phase.data.select, test=phase.data.select)  # neither is read
    there = replace(phase, data=data)
    if config.gpus_per_worker:
        there = replace(there, compute=replace(phase.compute, device="cuda", channels_last=True))
    parts = [model, phase.criterion, phase.metric]
    for split in (phase.data.train, phase.data.select):
        parts += [split, *getattr(split, "__dict__", {}).values()]
    total = phase.recipe.total_steps(len(phase.data.train))
    with followed(phase.log.path, name=phase.phase, phase=phase.of_command, total=total):
        train_on_ray(
            _AsRank(run, there),
            config,
            folder=phase.checkpoint.parent / "ranks",
            batch_size=phase.recipe.batch_size,
            parts=parts,
        )
