"""Training of the dense network by its recipe (`--learner full-prec`)."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from ws_learner.config import ClusterConfig, Recipe
from ws_learner.core import ComputeDevice, Inputs, RunDir, narrowed, tensor_types, widened
from ws_learner.data import DataSplits
from ws_learner.report import MetricsLog
from ws_learner.training.batch_check import check_batches
from ws_learner.training.evaluation import Loss
from ws_learner.training.metric_spec import Metric
from ws_learner.training.phase import TrainingPhase
from ws_learner.training.ray.run_phase import run_phase
from ws_learner.training.task_check import check_task

__all__ = ["train_dense"]


def train_dense(
    model: nn.Module,
    data: DataSplits,
    *,
    loss: Loss,
    metric: Metric,
    recipe: Recipe,
    compute: ComputeDevice,
    seed: int,
    run: RunDir,
    cluster: ClusterConfig | None = None,
) -> float:
    """Train `model` in place on the training split; return the time in seconds.

    Resumes where an earlier call stopped. Trains on Ray if `cluster` is given. A network in half
    precision is trained in float32 meanwhile.

    Raises:
        UserError: The metric or the network's outputs are not usable, see `check_task`.
    """
    check_batches(data, recipe)
    check_task(model, data, loss=loss, metric=metric, outputs=None, compares=False)

    def criterion(outputs: Tensor, targets: Tensor, inputs: Inputs) -> Tensor:
        return loss(outputs, targets)

    phase = TrainingPhase(
        phase="dense",
        data=data,
        criterion=criterion,
        metric=metric,
        recipe=recipe,
        compute=compute,
        seed=seed,
        log=MetricsLog(run.metrics),
        checkpoint=run.state / "dense.pt",
    )
    types = tensor_types(model)
    widened(model)
    train = partial(TrainingPhase.run, model=model)
    seconds = run_phase(train, phase, model=model, cluster=cluster)
    narrowed(model, types)
    return seconds
