"""Patterns and number formats of single layers in a table of ratios that a user gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from torch import nn

from envs import IntArray, LayerRow
from ws_learner.config import parse_pattern_spec
from ws_learner.core import (
    AnyPath,
    LayerChoice,
    NumberFormat,
    UserError,
    by_layer,
    cells_in_file,
)
from ws_learner.pruning.layers.layer_plan import build_pattern_plan
from ws_learner.pruning.patterns.pattern import PerLayerPatterns

__all__ = ["read_layer_choices"]

_COLUMNS = ("pattern", "dtype")


def read_layer_choices(
    given: AnyPath | Mapping[str, float],
    model: nn.Module,
    layers: Sequence[LayerRow],
    *,
    zeros: IntArray,
) -> tuple[LayerChoice, ...] | None:
    """The choice of each layer that a `ratios.csv` holds, if it has such columns.

    Args:
        given: The file, or layer -> prune ratio, which has none.
        model: The network.
        layers: Its table, L rows.
        zeros: (L,) zeros that `read_ratios` read from the file.

    Returns:
        L choices; a layer without zeros is `unstructured`, an empty cell `unstructured` or `fp32`.
        None for a file without the columns `pattern` and `dtype`, or of another tool.

    Raises:
        UserError: A cell is no pattern or number format, or whole units of a pattern cannot make
            the zeros of its layer.
    """
    if isinstance(given, Mapping):
        return None
    entries = cells_in_file(given, setting="ws_ratios", columns=_COLUMNS)
    if not entries:
        return None
    names = [row.name for row in layers]
    places = {name: f"`ws_ratios` {given}, line {line}" for line, name, _ in entries}
    cells = {name: cells for _, name, cells in entries}
    cells = {n: own for n, own in cells.items() if any(own.values()) and _is_layer(n, names)}
    chosen = by_layer(cells, names, where=places)
    found = []
    for row, count in zip(layers, zeros.tolist(), strict=True):
        key, own = chosen.get(row.name, ("", {}))
        place = places.get(key, "")
        found.append(_choice(own, row, count, place=place))
    _refuse_unfit(model, layers, found, {name: places[key] for name, (key, _) in chosen.items()})
    return tuple(found)


def _is_layer(key: str, names: Sequence[str]) -> bool:
    """Whether a name fits; one that does not has no zeros, or `read_ratios` has refused it."""
    try:
        return bool(by_layer({key: ""}, names, where=""))
    except UserError:
        return False


def _choice(cells: Mapping[str, str], row: LayerRow, zeros: int, *, place: str) -> LayerChoice:
    try:
        pattern = str(parse_pattern_spec(cells.get("pattern") or "unstructured"))
        PerLayerPatterns.of({row.name: pattern})
    except UserError as error:
        raise UserError(f"{place}: {error}") from None
    dtype = cells.get("dtype") or "fp32"
    for known in get_args(NumberFormat):
        if dtype == known:
            kept = pattern if zeros else "unstructured"
            return LayerChoice(pattern=kept, zeros=zeros, dtype=known)
    allowed = " or ".join(get_args(NumberFormat))
    raise UserError(f"{place}: dtype of {row.name} is {dtype!r}; it must be {allowed}")


def _refuse_unfit(
    model: nn.Module,
    layers: Sequence[LayerRow],
    choices: Sequence[LayerChoice],
    places: Mapping[str, str],
) -> None:
    """Refuse counts that whole units cannot make."""
    patterns = {
        row.name: choice.pattern
        for row, choice in zip(layers, choices, strict=True)
        if choice.zeros
    }
    plan = build_pattern_plan(model, patterns, pattern=patterns)
    for row, choice in zip(layers, choices, strict=True):
        if not choice.zeros:
            continue
        nearest = plan.patterns[row.name].feasible(plan.shapes[row.name], choice.zeros)
        if nearest != choice.zeros:
            raise UserError(
                f"{places.get(row.name, '`ws_ratios`')}: {choice.zeros} zeros of {row.name} are no "
                f"whole units of {choice.pattern}; the nearest prune_ratio is "
                f"{nearest / row.weights!r}"
            )
