"""A list of runs and a comparison as HTML pages of one file, which load nothing."""

from __future__ import annotations

import base64
import hashlib
import os
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ws_learner.core import AnyPath, as_path, shown
from ws_learner.report.runs.cells import (
    change_text,
    metric_cells,
    metric_text,
    row_title,
    size_text,
    state_text,
)
from ws_learner.report.runs.comparison import Comparison
from ws_learner.report.runs.letter_names import letters
from ws_learner.report.runs.row import RunRow

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["comparison_page", "runs_page"]

_TEMPLATES = Path(__file__).parent / "templates"


def runs_page(rows: Sequence[RunRow], *, folder: AnyPath, beside: AnyPath | None = None) -> str:
    """A list of runs as a page, whose tables can be sorted. All text is escaped.

    Args:
        rows: In this order.
        folder: Their folder, for the title.
        beside: Folder that the page will lie in; runs link to their `report.html` from there.
    """
    place = None if beside is None else as_path(beside, name="beside").absolute()
    title = f"{len(rows)} runs in {shown(str(folder))}"
    return _render("runs.html.j2", title=title, rows=[_values(row, place) for row in rows])


def comparison_page(found: Comparison) -> str:
    """A comparison as a page. All text is escaped."""
    names = letters(len(found.rows))
    return _render(
        "comparison.html.j2",
        title=" and ".join(row_title(row) for row in found.rows)
        if len(found.rows) == 2
        else f"{len(found.rows)} runs side by side",
        letters=names,
        runs=list(zip(names, found.rows, strict=True)),
        notes=found.notes,
        metrics=[cells for line in found.metrics for cells in metric_cells(line)],
        settings=found.settings,
        ratios=found.ratios,
    )


def _values(row: RunRow, place: Path | None) -> dict[str, Any]:
    value = row.dense if row.kind == "dense" else row.sparse
    return {
        "title": row_title(row),
        "id": row.id,
        "link": _link(row, place),
        "tags": row.tags,
        "experiment": row.experiment,
        "method": row.method or row.kind,
        "protocol": row.protocol,
        "target": row.target,
        "pattern": row.pattern,
        "metric": metric_text(row),
        "metric_value": "" if value is None else value,
        "change": change_text(row),
        "change_value": "" if row.change is None else row.change,
        "size": size_text(row.size_bytes),
        "size_value": "" if row.size_bytes is None else row.size_bytes,
        "state": row.state,
        "state_text": state_text(row),
        "reason": row.reason,
        "started": row.started,
        "date": _date(row.started),
    }


def _date(moment: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.gmtime(moment))
    except (OverflowError, OSError, ValueError):
        return ""


def _link(row: RunRow, place: Path | None) -> str:
    """The run's report, relative to the page; empty without one."""
    report = row.path.absolute() / "report.html"
    if place is None or not report.is_file():
        return ""
    return quote(os.path.relpath(report, place))


def _render(name: str, **values: Any) -> str:
    script = _source("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = _environment().get_template(name)
    return template.render(**values, style=_source("page.css"), script=script, script_digest=digest)


def _source(name: str) -> str:
    """A file of the package, which the page takes as it is."""
    from markupsafe import Markup

    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
