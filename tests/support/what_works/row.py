"""One row of docs/what_works.md: something people bring, and what becomes of it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from torch import nn

from ws_learner import DataSplits, Recipe, Result, WeightSparseConfig, WeightSparseLearner

__all__ = ["AREAS", "Area", "Row", "pruned", "rows"]

Area = Literal["network", "data", "outputs and losses", "training", "deployment", "command line"]
AREAS: tuple[Area, ...] = get_args(Area)


@dataclass(frozen=True, kw_only=True)
class Row:
    """Something people bring.

    Attributes:
        area: Section of the table.
        what: The table's first cell, in Markdown.
        run: Does it with the public interface in an empty folder, and asserts what a user needs to
            be true.
        refused: Part of the error's line if it is refused; None: it works unmodified. Give whole
            clauses: they are what the table shows.
    """

    area: Area
    what: str
    run: Callable[[Path], None]
    refused: str | None = None


def rows() -> Iterator[Row]:
    """The rows of all modules in `tests/support/what_works/rows`, each with a tuple `ROWS`."""
    package = "tests.support.what_works.rows"
    folder = Path(__file__).parent / "rows"
    for module in sorted(found.name for found in pkgutil.iter_modules([str(folder)])):
        yield from importlib.import_module(f"{package}.{module}").ROWS


def pruned(model: nn.Module, data: DataSplits, folder: Path, **given: Any) -> Result:
    """A short whole run: search of four rollouts, one epoch of gradual pruning to 50 %.

    Args:
        model: Dense network.
        data: Its splits.
        folder: Receives the run.
        given: Arguments of `WeightSparseLearner`; `config` entries may be given as a dict.
    """
    config = {"ws_prune_ratio": 0.5, "ws_nb_rlouts": 4, "ws_nb_rlouts_min": 2}
    config |= given.pop("config", {})
    given = {"recipe": Recipe(nb_epochs=1, batch_size=16), "workers": 0} | given
    learner = WeightSparseLearner(
        model, data, config=WeightSparseConfig(**config), run_dir=folder / "run", **given
    )
    result = learner.fit()
    weights = result.ratios["weights"].sum()
    zeros = (result.ratios["weights"] * result.ratios["achieved"]).sum()
    assert abs(zeros - config["ws_prune_ratio"] * weights) <= 1
    return result
