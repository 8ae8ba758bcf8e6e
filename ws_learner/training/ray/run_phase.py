"""A training phase on Ray: the ranks bring its checkpoint to the end, anybody reads it there."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from torch import nn

from ws_learner.config.cluster import ClusterConfig
from ws_learner.core.checkpoints import load_state_file
from ws_learner.core.process_group import World
from ws_learner.report.metrics import MetricsLog
from ws_learner.training.phase import Fit
from ws_learner.training.ray.session import ray_session
from ws_learner.training.ray.train_loop import train_on_ray

__all__ = ["run_phase"]

T = TypeVar("T")


@dataclass(frozen=True)
class _AsRank:
    """Runs a phase as one rank."""

    run: Callable[[Fit], object]
    fit: Fit

    def __call__(self, world: World) -> None:
        fit = replace(self.fit, world=world)
        if world.rank == 0:  # what an earlier attempt has logged belongs to the run
            fit = replace(fit, log=MetricsLog(fit.log.path))
        with warnings.catch_warnings():  # the driver, which reads the result, says them too
            warnings.simplefilter("ignore", UserWarning)
            self.run(fit)


def run_phase(
    run: Callable[[Fit], T], fit: Fit, *, model: nn.Module, cluster: ClusterConfig | None
) -> T:
    """Return `run(fit)`; with a cluster, ranks on Ray do its work first.

    The same function trains here and there: they bring the checkpoint to its last step, and
    running it here then only reads it. So a phase begun on Ray can be ended here, or at another
    number of ranks, and the other way round.

    Args:
        run: Runs a phase to its end, such as `sparsify` with all but the phase given; it and all
            it holds can be pickled.
        fit: The phase.
        model: The network that `run` trains.
        cluster: Ranks; None trains here.

    Raises:
        UserError: Bad input, or too few machines.
    """
    if cluster is not None:
        with ray_session(cluster):
            _on_ray(run, fit, model=model, config=cluster)
    return run(fit)


def _on_ray(
    run: Callable[[Fit], object], fit: Fit, *, model: nn.Module, config: ClusterConfig
) -> None:
    if fit.checkpoint.exists():
        state = load_state_file(fit.checkpoint)
        if state["step"] >= fit.recipe.total_steps(len(fit.data.train)):
            return
    data = replace(fit.data, search=fit.data.select, test=fit.data.select)  # neither is read
    there = replace(fit, data=data)
    if config.gpus_per_worker:
        there = replace(
            there, arithmetic=replace(fit.arithmetic, device="cuda", channels_last=True)
        )
    parts = [model, fit.criterion, fit.metric]
    for split in (fit.data.train, fit.data.select):
        parts += [split, *getattr(split, "__dict__", {}).values()]
    train_on_ray(
        _AsRank(run, there),
        config,
        folder=fit.checkpoint.parent / "ranks",
        batch_size=fit.recipe.batch_size,
        parts=parts,
    )
