"""Command-line flags with an LPOT file: a teacher; refuses flags that the file decides."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from ws_learner.config import WeightSparseConfig
from ws_learner.core import UserError

if TYPE_CHECKING:
    from torch import nn

    from experiments.cli.flags import Command
    from experiments.experiment import Experiment
    from ws_learner.compat import LpotConf

__all__ = ["check_lpot_flags", "load_teacher"]

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
    from ws_learner.compat import lpot_distils

    return lpot_distils(conf, command.ws)


def load_teacher(
    command: Command, experiment: Experiment, conf: LpotConf, *, start: Path | None
) -> nn.Module | None:
    """The teacher; None without distillation.

    It has the weights of --dst_checkpoint, or else those that training starts from, `start`.

    Raises:
        UserError: There are no weights for a teacher.
    """
    if not _distils(command, conf):
        return None
    from experiments.cli.dense_weights import load_weights

    teacher, weights = copy.deepcopy(experiment.model), command.run.dst_checkpoint or start
    if weights is None and experiment.trained:
        return teacher
    if weights is None:
        raise UserError("distillation needs a trained teacher: give --dst_checkpoint FILE")
    load_weights(teacher, weights)
    return teacher
