"""What a run's folder holds, read and checked for the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ws_learner.core import (
    MESSAGES_FILE,
    RunDir,
    UserError,
    reading,
)
from ws_learner.report.csv_io import read_frontier, read_rollouts
from ws_learner.report.headlines import title
from ws_learner.report.html.side_files import (
    ASIDE,
    plain,
    read_dense,
    read_messages,
    read_protocols,
    read_settings,
    settings_of_python,
    text,
)
from ws_learner.report.markdown import headline
from ws_learner.report.metric_text import MetricText, metric_of
from ws_learner.report.metrics import read_metrics
from ws_learner.report.runs.fields import read_object
from ws_learner.report.table import read_table

__all__ = ["RunFiles", "plain", "read_files", "text"]

_MOST_DENSE = 300


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """The files of a run; None, or empty, where there is none.

    Attributes:
        run: The folder.
        summary: `summary.json`.
        ratios: `ratios.csv`.
        rollouts: `rollouts.csv`.
        metrics: `metrics.csv`.
        frontier: `frontier.csv`.
        protocols: `protocols.csv`.
        dense: `dense.csv`.
        settings: `config.yaml`, or what `identity.json` says of a run from Python.
        defaults: `defaults.yaml`.
        identity: `identity.json`.
        deployed: `deploy/deploy.json`.
        messages: Level and text of each line of `messages.jsonl`, each line once.
        problems: A line for each file that could not be read and is no result.
    """

    run: RunDir
    summary: Mapping[str, Any]
    ratios: pd.DataFrame | None = None
    rollouts: pd.DataFrame | None = None
    metrics: pd.DataFrame | None = None
    frontier: pd.DataFrame | None = None
    protocols: pd.DataFrame | None = None
    dense: pd.DataFrame | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict)
    deployed: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()

    @cached_property
    def metric(self) -> MetricText:
        """The run's metric."""
        return metric_of(self.summary)

    @property
    def title(self) -> str:
        """One line that names the run."""
        return title(self.summary)

    @property
    def headline(self) -> str:
        """One sentence on the result."""
        said = headline(self.summary).replace("*", "").replace("\\", "")
        return said.replace(" %", "\N{NO-BREAK SPACE}%")

    @property
    def dense_rows(self) -> list[dict[str, str]]:
        """What stays dense: name, number of weights, and why."""
        if self.dense is not None and not self.dense.empty:
            columns = zip(*(self.dense[c] for c in ("layer", "weights", "reason")), strict=True)
            rows = [{"layer": text(a), "weights": f"{b:,}", "why": text(c)} for a, b, c in columns]
            return rows[-_MOST_DENSE:]  # the last one sums up all small ones
        if self.ratios is None:
            return []
        none = self.ratios[self.ratios["achieved"] == 0]
        why = "no zeros in the saved file; the run kept no reason"
        pairs = zip(none["layer"], none["weights"], strict=True)
        return [{"layer": text(a), "weights": f"{b:,}", "why": why} for a, b in pairs][:_MOST_DENSE]


def read_files(path: Path) -> RunFiles:
    """Read a run's folder.

    Raises:
        UserError: The run is not finished, or a result is damaged. Other files that cannot be read
            are named in `problems`.
    """
    run, problems = RunDir(path), list[str]()
    summary = run.read_summary()

    def aside(file: Path, read: Callable[[Path], Any], empty: Any) -> Any:
        """A file that is no result."""
        if not file.exists():
            return empty
        try:
            with reading(file.name, ASIDE):
                return read(file)
        except UserError as error:
            said = str(error).replace(f"{path}/", "")
            own = said if said.startswith(file.name) else f"{file.name}: {said}"
            problems.append(text(own, 300))
            return empty

    identity = aside(path / "identity.json", read_object, {})
    settings = aside(run.config, read_settings, {}) or settings_of_python(identity)
    found: dict[str, Any] = {
        "protocols": aside(run.protocols, read_protocols, None),
        "dense": aside(run.dense_weights, read_dense, None),
        "defaults": aside(run.defaults, read_settings, {}),
        "deployed": aside(path / "deploy" / "deploy.json", read_object, {}),
        "messages": aside(path / MESSAGES_FILE, read_messages, ()),
    }
    results = (
        ("ratios", run.ratios, read_table),
        ("rollouts", run.rollouts, read_rollouts),
        ("metrics", run.metrics, read_metrics),
        ("frontier", run.frontier, read_frontier),
    )
    tables = {name: read(file) for name, file, read in results if file.exists()}
    found |= {name: table for name, table in tables.items() if not table.empty}
    return RunFiles(
        run=run,
        summary=summary,
        settings=settings,
        identity=identity,
        problems=tuple(problems),
        **found,
    )
