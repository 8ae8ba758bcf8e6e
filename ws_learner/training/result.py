"""What a run gives back to its caller."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ws_learner.core import AnyPath, UserError
from ws_learner.report import write_report_file

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Result"]


@dataclass(frozen=True, eq=False)
class Result:
    """The network, the layer table and the headline numbers of a run.

    Attributes:
        model: The network, of its own class, with plain sparse weights.
        ratios: The layer table with chosen and achieved ratios, see `report.table.COLUMNS`.
        summary: Headline numbers, as in `summary.json`.
        run_dir: Folder of the run; None if the run left none.
    """

    model: nn.Module
    ratios: pd.DataFrame
    summary: dict[str, Any]
    run_dir: Path | None = None

    def report(self, path: AnyPath) -> Path:
        """Write the run's report: a page to send if the name ends in .html, else Markdown.

        Args:
            path: The file; `.html` or `.md`.

        Raises:
            UserError: It has another ending or cannot be written, or a file of the run is damaged.
        """
        if self.run_dir is None:
            raise UserError("`report`: this result has no folder of a run to report on")
        return write_report_file(self.run_dir, path)
