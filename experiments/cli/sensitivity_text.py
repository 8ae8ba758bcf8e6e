"""The sensitivity of layers as text: a row per layer, most sensitive first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from ws_learner.search import Sensitivity

__all__ = ["sensitivity_text"]

_BARS = "▁▂▃▄▅▆▇█"
_MOST_ROWS = 40


def sensitivity_text(found: Sensitivity) -> str:
    """The table: weights, MACs, bars on one logarithmic scale, and the numbers behind them."""
    from tabulate import tabulate

    table = found.table
    known = bool(table["divergence"].notna().any())
    wide = table.pivot(
        index="layer", columns=["pattern", "ratio"], values="divergence" if known else "error"
    )
    wide = wide[list(dict.fromkeys(zip(table["pattern"], table["ratio"], strict=True)))]
    about = table.drop_duplicates("layer").set_index("layer")
    left = [name for name in about.index if name not in set(found.ranking)]  # by other patterns
    order = [*found.ranking, *left]
    low, high = _range(wide.to_numpy(dtype=float).ravel().tolist())
    rows = []
    for name in order[:_MOST_ROWS]:
        values = wide.loc[name].tolist()
        size = [_short(about.loc[name, "weights"]), _short(about.loc[name, "macs"])]
        numbers = ["" if math.isnan(one) else f"{one:.3g}" for one in values]
        rows.append([name.removesuffix(".weight"), *size, _bars(values, low, high), *numbers])
    heads = ["layer", "weights", "MACs", "", *_heads(wide)]
    aligned = ("left", "right", "right", "left", *["right"] * len(wide.columns))
    text = tabulate(rows, headers=heads, tablefmt="plain", colalign=aligned, disable_numparse=True)
    more = len(order) - len(rows)
    rest = f"and {more} less sensitive layers, in sensitivity.csv\n" if more > 0 else ""
    kind = "divergence with one layer pruned" if known else "relative squared error of the layer"
    return f"{kind}, worst first\n\n{text}\n{rest}\n"


def _heads(wide: pd.DataFrame) -> list[str]:
    """Ratios, the first of each pattern with its name."""
    heads: list[str] = []
    before = None
    for key in wide.columns.tolist():
        pattern, ratio = key[0], key[1]
        heads.append(f"{ratio:g}" if pattern == before else f"{pattern} {ratio:g}")
        before = pattern
    return heads


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Logarithms of the least and the greatest value, at least two decades apart."""
    above = [math.log10(one) for one in values if one > 0]
    high = max(above, default=0.0)
    return min(min(above, default=0.0), high - 2), high


def _bars(values: Sequence[float], low: float, high: float) -> str:
    def bar(value: float) -> str:
        if math.isnan(value):
            return " "
        share = (math.log10(max(value, 10**low)) - low) / (high - low)
        return _BARS[round(share * (len(_BARS) - 1))]

    return "".join(map(bar, values))


def _short(number: int) -> str:
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)
