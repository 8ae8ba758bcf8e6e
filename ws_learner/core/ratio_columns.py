"""Columns of a table of ratios: which holds the names, which the ratios, and in which unit."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ws_learner.core.errors import UserError
from ws_learner.core.percentages import share_hint
from ws_learner.core.shown_values import shown, shown_repr

__all__ = ["Columns", "find_columns"]

_NAMES = (
    *("layer", "name", "module", "param", "parameter", "weight", "tensor", "fqn"),
    *("layer_name", "module_name", "param_name", "parameter_name", "weight_name", "tensor_name"),
)
_PRUNED = (
    *("prune_ratio", "pruning_ratio", "prune_rate", "pruning_rate", "pruned", "prune"),
    *("sparsity", "sparsity_ratio", "weight_sparsity", "sparsity_level", "ratio", "zero_ratio"),
)
_KEPT = ("density", "keep_ratio", "kept", "remaining", "keep_rate", "nonzero_ratio")
_PERCENT = re.compile(r"_?(percent|percentage|pct)$|^(percent|percentage|pct)_")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """How a table is read.

    Attributes:
        names: Header of the column of names.
        values: Header of the column of ratios.
        kept: The column holds densities.
        percent: It is in percent.
        said: What was understood, in words; empty if it is our own table.
    """

    names: str
    values: str
    kept: bool
    percent: bool
    said: str

    def name(self, row: Mapping[str, str]) -> str:
        """The layer of a row."""
        return row.get(self.names, "").strip()

    def ratio(self, row: Mapping[str, str], *, where: str, layer: str) -> float:
        """The prune ratio of a row, in [0, 1].

        Raises:
            UserError: It is none.
        """
        text = row.get(self.values, "").strip()
        most = 100.0 if self.percent else 1.0
        value = _number(text.rstrip("%") if self.percent else text)
        if not 0.0 <= value <= most:
            raise UserError(
                f"{where}: {shown(self.values)} of {shown(layer)} is {shown_repr(text)}; it must "
                f"be a number from 0 to {most:g}{'' if self.percent else share_hint(text)}"
            )
        return (most - value if self.kept else value) / most


def find_columns(
    header: Sequence[str], rows: Sequence[Mapping[str, str]], *, where: str
) -> Columns:
    """Find the columns of a table by their names, and the unit by names and values.

    `layer` and `prune_ratio` are our own and go before all others; `prune_ratio` is a share. Other
    columns are in percent if their name says so, if the values have percent signs, or if one is
    above 1 and none lies between 0 and 1.

    Raises:
        UserError: There is none, or more than one that it could be; or the unit is not clear.
    """
    plain = {name: re.sub(r"[^a-z0-9%]+", "_", name.lower()).strip("_") for name in header}
    names = _first(plain, _NAMES[:1]) or _first(plain, _NAMES)
    known = (*_PRUNED, *_KEPT)
    values = [name for name in header if _base(plain[name]) in known and name not in names]
    values = _first(plain, _PRUNED[:1]) or values
    first = f"{where}, line 1" if header or not rows else where
    found = shown(", ".join(header), most=200) or "none"
    if not names:
        raise UserError(
            f"{first}: no column layer; names may stand in {', '.join(_NAMES[:6])}; found {found}"
        )
    if not values:
        raise UserError(
            f"{first}: no column prune_ratio; ratios may stand in prune_ratio, sparsity, ratio or "
            f"density; found {found}"
        )
    both = [_base(plain[name]) for name in values]
    if len(values) > 1 or len(names) > 1:
        which = values if len(values) > 1 else names
        raise UserError(
            f"{first}: {shown(' and '.join(which))} could both be meant; keep one, or name the "
            "columns layer and prune_ratio"
        )
    kept = both[0] in _KEPT
    percent = plain[values[0]] != "prune_ratio" and _in_percent(
        values[0], plain[values[0]], [row.get(values[0], "") for row in rows], where=where
    )
    own = plain[names[0]] == "layer" and plain[values[0]] == "prune_ratio"
    unit = "percent" if percent else "shares"
    what = f"densities in {unit}, prune ratio = 1 - density" if kept else f"prune ratios in {unit}"
    said = (
        ""
        if own
        else f"column {shown_repr(names[0])} has the layers, {shown_repr(values[0])} {what}"
    )
    return Columns(names=names[0], values=values[0], kept=kept, percent=percent, said=said)


def _first(plain: Mapping[str, str], wanted: Sequence[str]) -> list[str]:
    return [name for name, base in plain.items() if base in wanted]


def _base(plain: str) -> str:
    return _PERCENT.sub("", plain.replace("%", "").strip("_"))


def _in_percent(name: str, plain: str, cells: Sequence[str], *, where: str) -> bool:
    if "%" in plain or _PERCENT.search(plain):
        return True
    filled = [cell.strip() for cell in cells if cell.strip()]
    if any(cell.endswith("%") for cell in filled):
        if all(cell.endswith("%") or _number(cell) == 0 for cell in filled):
            return True
        raise UserError(
            f"{where}: column {shown(name)} has numbers with and without %; write all alike"
        )
    numbers = [value for value in map(_number, filled) if math.isfinite(value)]
    above = [value for value in numbers if value > 1]
    shares = [value for value in numbers if 0 < value < 1]
    if above and shares:
        raise UserError(
            f"{where}: column {shown(name)} has {shares[0]:g} and {above[0]:g}: shares or percent? "
            f"Call it {shown(name)}_percent, or write shares from 0 to 1"
        )
    return bool(above) and all(0 <= value <= 100 for value in numbers)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
