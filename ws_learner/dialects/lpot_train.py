"""The `train` section of an LPOT file: optimizer, criterion, data, length. Free of torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ws_learner.dialects.lined_yaml import Problems, Rows, Table
from ws_learner.dialects.lpot_conf import Loader, Optimizer, Train
from ws_learner.dialects.lpot_criterion import only_entry, read_criterion
from ws_learner.dialects.values import boolean, number, text, whole

__all__ = ["read_train"]

_TRAIN = (
    *("optimizer", "criterion", "dataloader", "epoch", "start_epoch", "end_epoch", "iteration"),
    *("frequency", "execution_mode", "hostfile", "postprocess"),
)
_LOADER = ("batch_size", "last_batch", "dataset", "transform", "filter", "shuffle")

_ADAM: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("learning_rate", "beta_1", "beta_2", "epsilon", "weight_decay"), number),
    "amsgrad": boolean,
}
_OPTIMIZERS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "SGD": {
        **dict.fromkeys(("learning_rate", "momentum", "weight_decay"), number),
        "nesterov": boolean,
    },
    "Adam": _ADAM,
    "AdamW": _ADAM,
}
_DATASETS: dict[str, tuple[str, ...]] = {
    "ImageFolder": ("root",),
    "CIFAR10": ("root", "train", "download"),
}
_SIZE, _SHARES = "a size in pixels", "one number per channel"
_TRANSFORMS: dict[str, dict[str, str]] = {
    "RandomResizedCrop": {"size": _SIZE},
    "RandomCrop": {"size": _SIZE, "padding": _SIZE},
    "CenterCrop": {"size": _SIZE},
    "Resize": {"size": _SIZE},
    "RandomHorizontalFlip": {},
    "ToTensor": {},
    "Normalize": {"mean": _SHARES, "std": _SHARES},
}


def read_train(table: Table, problems: Problems) -> Train | None:
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
    if iteration == 0:
        problems.add(table.lines["iteration"], "iteration 0: must be at least 1 batch per epoch")
    optimizer = _optimizer(table, problems)
    criterion = read_criterion(table, problems)
    loader = _loader(table, problems)
    if optimizer is None or criterion is None:
        return None
    return Train(
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
        wanted = "a number" if convert is number else "True or False"
        value = problems.value(settings, key, convert, default=None, wanted=wanted)
        if value is not None:
            values[key] = value
    if name == "SGD" and "learning_rate" not in settings:
        problems.add(settings.line, "SGD: learning_rate is missing")
    if name == "AdamW" and "weight_decay" not in settings:
        problems.add(settings.line, "AdamW: weight_decay is missing")
    values.setdefault("learning_rate", 0.001)
    if values.get("learning_rate", 1) <= 0:
        problems.add(settings.lines["learning_rate"], "learning_rate: must be above 0")
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
    if loader.get("filter") is not None:
        problems.add(loader.lines["filter"], "filter: is not supported; remove it")
    found = only_entry(loader, "dataset", _DATASETS, problems)
    transforms = _transforms(loader, problems)
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


def _transforms(loader: Table, problems: Problems) -> tuple[tuple[str, dict[str, Any]], ...]:
    table = problems.table(loader, "transform")
    if table is None:
        return ()
    made: list[tuple[str, dict[str, Any]]] = []
    problems.keys(table, _TRANSFORMS, where="transform")
    for name, given in table.items():
        if name not in _TRANSFORMS:
            continue
        settings = given if isinstance(given, Table) else Table()
        if given is not None and not isinstance(given, Table):
            problems.add(table.lines[name], f"{name} {given!r}: must hold settings, one a line")
        known = _TRANSFORMS[name]
        problems.keys(settings, known, where=name)
        values = {
            key: problems.value(
                settings,
                key,
                _pixels if wanted == _SIZE else _per_channel,
                default=None,
                wanted=wanted,
            )
            for key, wanted in known.items()
        }
        for key in known:
            if key != "padding" and settings.get(key) is None:
                problems.add(table.lines[name], f"{name}: {key} is missing")
        made.append((name, {key: value for key, value in values.items() if value is not None}))
    return tuple(made)


def _pixels(value: Any) -> int:
    if isinstance(value, Rows) and len(value) == 2 and value[0] == value[1]:
        value = value[0]  # a square, as [224, 224]
    return whole(value)


def _per_channel(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or not value:
        raise TypeError
    return tuple(number(item) for item in value)
