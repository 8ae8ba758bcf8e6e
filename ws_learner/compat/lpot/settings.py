"""Data, recipe and training loss as an LPOT file describes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from ws_learner.compat.lpot.data import LimitedSplit
from ws_learner.compat.lpot.distillation import build_lpot_distillation_loss, teacher_outputs
from ws_learner.compat.lpot.schema import LpotConf
from ws_learner.compat.lpot.training_function import load_conf_splits
from ws_learner.config import Recipe, WeightSparseConfig
from ws_learner.core import AnyPath, OutputKind, UserError, as_path
from ws_learner.data import DataSplits
from ws_learner.training import TrainingLoss, build_training_loss

__all__ = [
    "build_lpot_recipe",
    "build_lpot_training_loss",
    "load_lpot_data",
    "lpot_distils",
    "with_data_folder",
]

_SETTLING = 2
"""Epochs after the last mask update, where the file does not say how long to train."""


def with_data_folder(conf: LpotConf, folder: AnyPath) -> LpotConf:
    """The same file with `folder` (or `folder`/train) in place of the data set's `root`."""
    folder = as_path(folder, name="folder")
    train = conf.train
    if train is None or train.loader is None:
        return conf
    root = folder / "train" if (folder / "train").is_dir() else folder
    arguments = {**train.loader.arguments, "root": str(root)}
    loader = dataclasses.replace(train.loader, arguments=arguments)
    return dataclasses.replace(conf, train=dataclasses.replace(train, loader=loader))


def load_lpot_data(
    conf: LpotConf,
    data: DataSplits | None = None,
    *,
    batch_size: int | None = None,
    workers: int | None = None,
) -> DataSplits:
    """The file's data, or `data`; an epoch of training has the file's `iteration` batches.

    Args:
        conf: The file.
        data: Splits to use instead of the file's `dataloader`.
        batch_size: Examples in a batch, where the file has no `dataloader` to say so.
        workers: Processes that read images; by default one per core.

    Raises:
        UserError: There are neither splits nor a `dataloader`, or the images cannot be read.
    """
    if data is None:
        data = load_conf_splits(conf, workers=workers)
    if conf.train is None or isinstance(data.train, LimitedSplit):
        return data
    if conf.train.loader is not None or batch_size is None:
        batch_size = _batch_size(conf, data)
    limited = LimitedSplit(data.train, conf.train.iteration, batch_size)
    return dataclasses.replace(data, train=limited)


def _batch_size(conf: LpotConf, data: DataSplits) -> int:
    loader = None if conf.train is None else conf.train.loader
    return min(loader.batch_size if loader else 1, len(data.train))


def build_lpot_recipe(conf: LpotConf, data: DataSplits, own: Recipe | None = None) -> Recipe:
    """Length, batch and rate of the file; the rate is constant, as LPOT's is.

    Args:
        conf: The file.
        data: Limits the batch to the examples there are.
        own: For a file without `train:`, changed to last as long as the pruners take and two
            epochs more.

    Raises:
        UserError: The file has no `train:` and there is no recipe.
    """
    train = conf.train
    if train is None:
        if own is None:
            raise UserError(
                f"`config` {conf.path}: has no `train:`, so nothing trains the network; add it, "
                "give a recipe, or use `from ws_learner import Pruning` with a training function "
                "of your own"
            )
        ends = [conf.end_epoch if p.end_epoch is None else p.end_epoch for p in conf.pruners]
        return dataclasses.replace(own, nb_epochs=max(ends) + 1 + _SETTLING)
    names: Mapping[str, Any] = {"SGD": "sgd", "Adam": "adam", "AdamW": "adamw"}
    return Recipe(
        nb_epochs=train.end_epoch - train.start_epoch,
        batch_size=_batch_size(conf, data),
        optimizer=names[train.optimizer.name],
        lrn_rate=train.optimizer.learning_rate,
        momentum=train.optimizer.momentum,
        nesterov=train.optimizer.nesterov,
        weight_decay=train.optimizer.weight_decay,
        lrn_schedule="step",
    )


def lpot_distils(conf: LpotConf, config: WeightSparseConfig) -> bool:
    """Whether the training has a teacher: by the file's criterion or by `config.enbl_dst`."""
    by_file = conf.train is not None and conf.train.criterion.distillation is not None
    return config.enbl_dst or by_file


def build_lpot_training_loss(
    conf: LpotConf,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    teacher: nn.Module | None,
    config: WeightSparseConfig,
    outputs: OutputKind | None = None,
    pad_id: int | None = None,
) -> TrainingLoss:
    """(outputs, targets, inputs) -> scalar, with the teacher's part if there is a teacher.

    Args:
        conf: Its KnowledgeDistillationLoss overrides `config`.
        loss: (outputs, targets) -> scalar.
        teacher: On its device; None without distillation.
        config: `enbl_dst`, `loss_w_dst` and `tempr_dst`.
        outputs: What the outputs mean; by default classes.
        pad_id: Number that pads sentences, see `DataSplits.pad_id`.

    Raises:
        UserError: The file's criterion compares outputs that are no classes.
    """
    settings = conf.train.criterion.distillation if conf.train is not None else None
    if teacher is None or settings is None:
        return build_training_loss(
            loss, teacher=teacher, config=config, outputs=outputs, pad_id=pad_id
        )
    if outputs not in (None, "classes", "tokens"):
        raise UserError(
            f"KnowledgeDistillationLoss: compares classes, but the outputs are {outputs}; leave "
            "it out and set `enbl_dst`, which compares them as what they are"
        )
    return lambda answers, targets, inputs: build_lpot_distillation_loss(
        answers,
        teacher_outputs(teacher, inputs),
        loss=loss(answers, targets),
        settings=settings,
        axis=1 if outputs == "classes" else -1,
    )
