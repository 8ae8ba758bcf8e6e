"""Prune ratios that a user gives: another run's `ratios.csv`, any tool's table, or a dict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from envs import IntArray, LayerRow
from ws_learner.core import UserError, by_layer, ratios_in_file, say

__all__ = ["layers_in_ratios", "read_ratios"]

Given = Path | Mapping[str, float]
_SHOWN = 3


def read_ratios(given: Given, layers: Sequence[LayerRow]) -> IntArray:
    """Read a network's planned prune ratios from a file, or from a dict of layer -> ratio.

    A `ratios.csv` of another run, a hand-written table and other tools' tables work, see
    `find_columns` in `ws_learner.core.ratio_columns`; what was understood of the latter is
    printed. A layer is named by its parameter, its module, or a pattern, see `by_layer`. Layers
    that are not named stay dense, with a line; names at ratio 0 that are no layers are passed over.

    Args:
        given: The file, or layer -> prune ratio in [0, 1].
        layers: The layer table, L rows.

    Returns:
        (L,) zeros of each layer, round(prune_ratio x weights), in the order of `layers`.

    Raises:
        UserError: The file cannot be read, a column or ratio is wrong, or a layer is not known,
            named twice or exempt.
    """
    ratios, where = _entries(given, quiet=False)
    names = [row.name for row in layers]
    ratios = {key: ratio for key, ratio in ratios.items() if ratio or _known(key, names)}
    chosen = by_layer(ratios, names, where=where)
    zeros = []
    for row in layers:
        key, ratio = chosen.get(row.name, ("", 0.0))
        if row.exempt and ratio and not _is_pattern(key):
            raise UserError(
                f"{where[key]}: layer {row.name} is exempt and stays dense, so its prune_ratio "
                f"must be 0, not {ratio:g}; correct it or remove the exemption"
            )
        zeros.append(0 if row.exempt else round(ratio * row.weights))
    _refuse_twice(chosen, ratios, where)
    left = [row.name for row in layers if row.name not in chosen and not row.exempt]
    if left:
        more = ", ..." if len(left) > _SHOWN else ""
        say(
            f"`ws_ratios`: {len(left)} of {len(layers)} layers are not named and stay dense: "
            f"{', '.join(left[:_SHOWN])}{more}"
        )
    return np.array(zeros, dtype=np.int64)


def layers_in_ratios(given: Given) -> tuple[str, ...]:
    """The layers that a file or dict of ratios prunes by their own names; see `read_ratios`.

    Raises:
        UserError: The file cannot be read, or a ratio is wrong.
    """
    ratios, _ = _entries(given, quiet=True)
    return tuple(name for name, ratio in ratios.items() if ratio and not _is_pattern(name))


def _known(key: str, names: Sequence[str]) -> bool:
    """Whether a name fits a layer; tables of other tools also list what cannot be pruned, at 0."""
    try:
        return bool(by_layer({key: 0.0}, names, where=""))
    except UserError:
        return False


def _is_pattern(name: str) -> bool:
    return name.startswith("re:") or any(mark in name for mark in "*?[")


def _refuse_twice(
    chosen: Mapping[str, tuple[str, float]], ratios: Mapping[str, float], where: Mapping[str, str]
) -> None:
    """Refuse a layer that two exact names mean, such as `fc` and `fc.weight`."""
    used = {key for key, _ in chosen.values()}
    for key in ratios:
        if key not in used and not _is_pattern(key):
            name = next((n for n in chosen if key in (n, n.rpartition(".")[0])), key)
            raise UserError(f"{where[key]}: layer {name} is listed twice; keep one of the lines")


def _entries(given: Given, *, quiet: bool) -> tuple[dict[str, float], dict[str, str]]:
    """Ratios by name, and what stands before each name in messages."""
    if isinstance(given, Mapping):
        return dict(given), dict.fromkeys(given, "`ws_ratios`")
    lines, said = ratios_in_file(given, setting="ws_ratios")
    if said and not quiet:
        say(f"`ws_ratios` {given}: {said}")
    ratios: dict[str, float] = {}
    where: dict[str, str] = {}
    for line, name, ratio in lines:
        place = f"`ws_ratios` {given}, line {line}"
        if name in ratios:
            raise UserError(f"{place}: layer {name} is listed twice; keep one of the lines")
        ratios[name], where[name] = ratio, place
    return ratios, where
