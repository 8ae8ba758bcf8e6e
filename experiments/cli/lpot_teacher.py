"""Command-line flags with an LPOT file: a teacher; refuses flags that the file decides."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from ws_learner.config import WeightSparseConfig
from ws_learner.core import UserError

if TYPE_CHECKING:
    from experiments.cli.flags import Command
    from experiments.experiment import Experiment
    from ws_learner.compat import LpotConf
    from ws_learner.core import ComputeDevice
    from ws_learner.training import TrainingLoss

__all__ = ["check_lpot_flags", "teacher_loss"]

_OURS = ("enbl_dst", "loss_w_dst", "tempr_dst")


def check_lpot_flags(command: Command, conf: LpotConf) -> None:
    """Refuse flags that an LPOT file would leave without effect.

    Raises:
        UserError: There is one.
    """
    path = conf.path
    if command.run.learner == "full-prec":
        raise UserError(f"--config {path}: is a pruning config; leave --learner full-prec out")
    usual = WeightSparseConfig()
    for item in dataclasses.fields(usual):
        name, value = item.name, getattr(command.ws, item.name)
        if name not in _OURS and value != getattr(usual, name):
            raise UserError(
                f"--{name} {value}: what is pruned, and how, comes from --config {path}; "
                "leave the flag out"
            )
    if command.run.dst_checkpoint and not _distils(command, conf):
        raise UserError(
            f"--dst_checkpoint {command.run.dst_checkpoint}: nothing distils; add --enbl_dst, or "
            "KnowledgeDistillationLoss as the file's criterion"
        )


def _distils(command: Command, conf: LpotConf) -> bool:
    by_file = conf.train is not None and conf.train.criterion.distillation is not None
    return command.ws.enbl_dst or by_file


def teacher_loss(
    command: Command,
    experiment: Experiment,
    conf: LpotConf,
    *,
    start: Path | None,
    compute: ComputeDevice,
) -> TrainingLoss | None:
    """(outputs, targets, inputs) -> loss with the teacher's part; None without distillation.

    The teacher is --dst_checkpoint's, or else the network that training starts from, `start`.
    The file's KnowledgeDistillationLoss goes before --loss_w_dst and --tempr_dst.

    Raises:
        UserError: There are no weights for a teacher.
    """
    if not _distils(command, conf):
        return None
    from experiments.cli.dense_weights import load_weights
    from ws_learner.compat import build_lpot_distillation_loss, teacher_outputs
    from ws_learner.training import build_training_loss

    teacher, weights = copy.deepcopy(experiment.model), command.run.dst_checkpoint or start
    if weights is None:
        raise UserError("distillation needs a trained teacher: give --dst_checkpoint FILE")
    load_weights(teacher, weights)
    compute.place_model(teacher)
    settings = conf.train.criterion.distillation if conf.train is not None else None
    if settings is None:
        return build_training_loss(experiment.loss, teacher=teacher, config=command.ws)
    return lambda outputs, targets, inputs: build_lpot_distillation_loss(
        outputs,
        teacher_outputs(teacher, inputs),
        loss=experiment.loss(outputs, targets),
        settings=settings,
    )
