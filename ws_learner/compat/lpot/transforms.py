"""The `transform` section of an LPOT file's data. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ws_learner.compat.values import above_zero, number, whole
from ws_learner.compat.yaml_with_lines import Problems, Rows, Table
from ws_learner.core import shown_repr

__all__ = ["read_transforms"]


def _pixels(value: Any) -> int:
    if isinstance(value, Rows) and len(value) == 2 and value[0] == value[1]:
        value = value[0]  # a square, as [224, 224]
    return whole(value)


def _size(value: Any) -> int:
    size = _pixels(value)
    if size < 1:
        raise ValueError
    return size


def _means(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list):
        raise TypeError
    means = tuple(number(item) for item in value)
    if len(means) != 3 or not all(math.isfinite(mean) for mean in means):
        raise ValueError
    return means


def _spreads(value: Any) -> tuple[float, ...]:
    return tuple(above_zero(spread) for spread in _means(value))


_WANTED: dict[Callable[[Any], Any], str] = {
    _pixels: "a size in pixels",
    _size: "a size in pixels, from 1",
    _means: "one number per channel, three of them",
    _spreads: "one number per channel, three of them above 0",
}
_TRANSFORMS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "RandomResizedCrop": {"size": _size},
    "RandomCrop": {"size": _size, "padding": _pixels},
    "CenterCrop": {"size": _size},
    "Resize": {"size": _size},
    "RandomHorizontalFlip": {},
    "ToTensor": {},
    "Normalize": {"mean": _means, "std": _spreads},
}


def read_transforms(loader: Table, problems: Problems) -> tuple[tuple[str, dict[str, Any]], ...]:
    """Name and settings of each transform of a `dataloader`, in the file's order."""
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
            problems.add(
                table.lines[name], f"{name} {shown_repr(given)}: must hold settings, one a line"
            )
        known = _TRANSFORMS[name]
        problems.keys(settings, known, where=name)
        values = {
            key: problems.value(settings, key, convert, default=None, wanted=_WANTED[convert])
            for key, convert in known.items()
        }
        for key in known:
            if key != "padding" and settings.get(key) is None:
                problems.add(table.lines[name], f"{name}: {key} is missing")
        made.append((name, {key: value for key, value in values.items() if value is not None}))
    return tuple(made)
