"""The `train` section of an LPOT file: optimizer, criterion, data, length. Free of torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ws_learner.compat.lpot.criterion import only_entry, read_criterion
from ws_learner.compat.lpot.schema import Loader, Optimizer, TrainSection
from ws_learner.compat.lpot.transforms import read_transforms
from ws_learner.compat.values import above_zero, boolean, fraction, from_zero, text, whole
from ws_learner.compat.yaml_with_lines import Problems, Table

__all__ = ["read_train"]

_TRAIN = (
    *("optimizer", "criterion", "dataloader", "epoch", "start_epoch", "end_epoch", "iteration"),
    *("frequency", "execution_mode", "hostfile", "postprocess"),
)
_LOADER = ("batch_size", "last_batch", "dataset", "transform", "filter", "shuffle")

_ADAM: dict[str, Callable[[Any], Any]] = {
    "learning_rate": above_zero,
    **dict.fromkeys(("beta_1", "beta_2"), fraction),
    **dict.fromkeys(("epsilon", "weight_decay"), from_zero),
    "amsgrad": boolean,
}
_OPTIMIZERS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "SGD": {
        "learning_rate": above_zero,
        **dict.fromkeys(("momentum", "weight_decay"), from_zero),
        "nesterov": boolean,
    },
    "Adam": _ADAM,
    "AdamW": _ADAM,
}
_DATASETS: dict[str, tuple[str, ...]] = {
    "ImageFolder": ("root",),
    "CIFAR10": ("root", "train", "download"),
}
_WANTED: dict[Callable[[Any], Any], str] = {
    above_zero: "a number above 0",
    from_zero: "a number from 0",
    fraction: "a number in [0, 1)",
    boolean: "True or False",
}


def read_train(table: Table, problems: Problems) -> TrainSection | None:
    """Read the section; None if optimizer or criterion are missing or wrong, which is noted."""
    problems.keys(table, _TRAIN, where="train")
    wanted = "a whole number from 0"
    start = problems.value(table, "start_epoch", whole, default=0, wanted=wanted)
    epochs = problems.value(table, "epoch", whole, default=1, wanted=wanted)
    end = problems.value(table, "end_epoch", whole, default=start + epochs, wanted=wanted)
    if end <= start:
        problems.add(
            table.lines.get("end_epoch", table.line),
            f"end_epoch {end}: must be above start_epoch {start}, it is not trained any more",
        )
    iteration = problems.value(table, "iteration", whole, default=None, wanted=wanted)
    wanted = "a number above 0"
    problems.value(table, "frequency", above_zero, default=None, wanted=wanted)
    if iteration == 0:
        problems.add(table.lines["iteration"], "iteration 0: must be at least 1 batch per epoch")
    optimizer = _optimizer(table, problems)
    criterion = read_criterion(table, problems)
    loader = _loader(table, problems)
    if optimizer is None or criterion is None:
        return None
    return TrainSection(
        optimizer=optimizer,
        criterion=criterion,
        loader=loader,
        start_epoch=start,
        end_epoch=end,
        iteration=iteration,
    )


def _optimizer(table: Table, problems: Problems) -> Optimizer | None:
    found = only_entry(table, "optimizer", _OPTIMIZERS, problems)
    if found is None:
        return None
    name, settings = found
    known = _OPTIMIZERS[name]
    problems.keys(settings, known, where=name)
    values: dict[str, Any] = {}
    for key, convert in known.items():
        value = problems.value(settings, key, convert, default=None, wanted=_WANTED[convert])
        if value is not None:
            values[key] = value
    if name == "SGD" and "learning_rate" not in settings:
        problems.add(settings.line, "SGD: learning_rate is missing")
    if name == "AdamW" and "weight_decay" not in settings:
        problems.add(settings.line, "AdamW: weight_decay is missing")
    values.setdefault("learning_rate", 0.001)
    if values.get("nesterov") and not values.get("momentum"):
        problems.add(settings.lines["nesterov"], "nesterov True: needs a momentum above 0")
    return Optimizer(name=name, **values)  # type: ignore[arg-type]


def _loader(table: Table, problems: Problems) -> Loader | None:
    loader = problems.table(table, "dataloader")
    if loader is None:
        return None
    problems.keys(loader, _LOADER, where="dataloader")
    wanted = "a whole number from 1"
    size = problems.value(loader, "batch_size", whole, default=1, wanted=wanted)
    if size < 1:
        problems.add(loader.lines["batch_size"], f"batch_size {size}: must be {wanted}")
    problems.value(loader, "shuffle", boolean, default=None, wanted="True or False")
    if loader.get("filter") is not None:
        problems.add(loader.lines["filter"], "filter: is not supported; remove it")
    found = only_entry(loader, "dataset", _DATASETS, problems)
    transforms = read_transforms(loader, problems)
    if found is None:
        return None
    name, settings = found
    problems.keys(settings, _DATASETS[name], where=name)
    if name == "ImageFolder" and settings.get("root") is None:
        problems.add(settings.line, "ImageFolder: root is missing")
    if "root" in settings:
        problems.value(settings, "root", text, default=None, wanted="the path of a folder")
    return Loader(
        dataset=name,
        arguments=dict(settings),
        transforms=transforms,
        batch_size=max(size, 1),
        line=loader.line,
    )
