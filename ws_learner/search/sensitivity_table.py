"""How sensitive the layers of a network are: table, order, CSV and heat map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ws_learner.core import AnyPath, UserError, as_path, suggest, write_text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Sensitivity"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sensitivity:
    """What pruning does to each layer, and through it to the network. Made by `sensitivity`.

    Attributes:
        table: One row per pattern, layer in forward order, and ratio, with the columns `layer`,
            `kind`, `role`, `weights`, `macs` (dense, of one example), `pattern`, `ratio`; `zeros`,
            the count nearest to the ratio that the pattern can make; `error`, the layer's squared
            output error after regression, relative to the outputs' energy; `divergence` of the
            network with only this layer pruned; and `slope`, the derivative of the divergence by
            ln(density of the layer) in the network with all layers at this ratio: the more negative
            it is, the more this layer's next zeros hurt, as long as such a network still works;
            beyond, slopes are noise. Divergence and slope are NaN if what the
            outputs mean is not known, the slope also where it cannot be taken.
    """

    table: pd.DataFrame

    @property
    def ranking(self) -> tuple[str, ...]:
        """Layers, most sensitive first, at the first pattern and its greatest ratio."""
        return self.ranked()

    def ranked(self, *, pattern: str | None = None, ratio: float | None = None) -> tuple[str, ...]:
        """Layers by how much a given share of zeros in each of them alone hurts, worst first.

        By divergence, and by error where that is not known or equal.

        Args:
            pattern: One of the table's; None is its first.
            ratio: One of the pattern's; None is its greatest.

        Raises:
            UserError: The table has no such pattern or ratio.
        """
        patterns = self.table["pattern"].unique().tolist()
        pattern = patterns[0] if pattern is None else pattern
        if pattern not in patterns:
            raise UserError(f"`pattern` {pattern}: {suggest(pattern, patterns)}")
        own = self.table[self.table["pattern"] == pattern]
        ratios = own["ratio"].unique().tolist()
        ratio = max(ratios) if ratio is None else ratio
        if ratio not in ratios:
            known = ", ".join(f"{one:g}" for one in ratios)
            raise UserError(f"`ratio` {ratio:g}: was not measured; {pattern} has {known}")
        own = own[own["ratio"] == ratio]
        worst = own.sort_values(["divergence", "error"], ascending=False, kind="stable")
        return tuple(worst["layer"].tolist())

    def to_csv(self, path: AnyPath) -> None:
        """Write the table, whole or not at all."""
        text = self.table.to_csv(index=False, lineterminator="\n")
        write_text(as_path(path), text)

    def figure(self, path: AnyPath) -> None:
        """Draw a heat map, layers x ratios, a panel per pattern; `.svg` or `.png`."""
        from ws_learner.report import sensitivity_figure

        sensitivity_figure(self.table, path)
