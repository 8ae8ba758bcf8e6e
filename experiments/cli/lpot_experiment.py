"""The experiment of a command line with an LPOT file: its network, the file's data and loss."""

from __future__ import annotations

import dataclasses

from experiments.cli.command import Command
from experiments.cli.own_file import build_experiment
from experiments.experiment import Experiment
from ws_learner.compat import (
    LpotConf,
    build_loss,
    find_data_folder,
    load_lpot_data,
    with_data_folder,
)
from ws_learner.core import say

__all__ = ["build_lpot"]


def build_lpot(command: Command, conf: LpotConf) -> Experiment:
    """The experiment's network on the file's data.

    Without `train:` in the file the experiment's own data and loss.

    Raises:
        UserError: The file describes a training but no data.
    """
    options = command.options
    if conf.train is None:
        say(f"--config {conf.path}: has no `train:`; the experiment's own data and recipe are used")
        return build_experiment(command.experiment, options, seed=command.run.seed)
    if (folder := getattr(options, "data_dir", None)) is not None:
        conf = with_data_folder(conf, folder)
    loader = conf.train.loader if conf.train is not None else None
    if loader is not None and loader.dataset == "ImageFolder":
        options = dataclasses.replace(options, data_dir=find_data_folder(loader))
    data = load_lpot_data(conf, workers=getattr(options, "data_workers", None))
    experiment = build_experiment(command.experiment, options, seed=command.run.seed)
    loss = build_loss(conf.train.criterion) if conf.train is not None else experiment.loss
    return dataclasses.replace(experiment, data=data, loss=loss)
