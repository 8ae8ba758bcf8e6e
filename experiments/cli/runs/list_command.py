"""List runs: `ws-learner runs [FOLDER]`, newest first."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

from experiments.cli.runs.no_rows import why_none
from experiments.cli.runs.text_table import fitting, terminal_width, text_table
from experiments.cli.verb_parser import VerbParser
from ws_learner.core import UserError, name_fits, refuse_unwritable, say, write_text
from ws_learner.report import RunRow, RunState, list_runs, run_columns, runs_page

__all__ = ["main"]

_STATES = get_args(RunState)
_SORTS: dict[str, Callable[[RunRow], Any]] = {
    "started": lambda row: -row.started,
    "changed": lambda row: -row.changed,
    "name": lambda row: (row.name == "", row.name, row.id),
    "metric": lambda row: _best(row.sparse, row),
    "change": lambda row: _best(row.change, row),
    "target": lambda row: row.target,
    "size": lambda row: (row.size_bytes is None, row.size_bytes),
    "state": lambda row: _STATES.index(row.state),
}
_DROPS = ("experiment", "method", "size", "pattern", "tags", "protocol", "age", "target", "change")
_RIGHT = {"metric", "change", "size", "age", "target"}


def main(argv: Sequence[str] | None = None, *, prog: str = "ws-learner runs") -> int:
    """Print the table; return the exit code: 0, or 2 after bad input."""
    parser = _parser(prog)
    given = parser.parse_args(argv)
    try:
        if not Path(given.folder).is_dir():
            raise UserError(_no_folder(given.folder))
        if given.html is not None:
            refuse_unwritable(given.html, setting="html", makes_folders=False)
        every = list_runs(given.folder)
        rows = _chosen(every, given)
    except UserError as error:
        say(f"error: {parser.spell(str(error))}")
        return 2
    if given.html is not None:
        write_text(given.html, runs_page(rows, folder=given.folder, beside=given.html.parent))
        say(f"wrote {given.html}, {len(rows)} runs")
    elif given.json:
        print(json.dumps([_plain(row) for row in rows], indent=2))
    else:
        if not rows:
            say(why_none(every, given))
        _print(rows, wide=given.wide)
    return 0


def _parser(prog: str) -> VerbParser:
    parser = VerbParser(prog=prog, description=__doc__)
    add = parser.add_argument
    add("folder", nargs="?", type=Path, default=Path("runs"), help="folder of runs (default: runs)")
    add("--tag", action="append", default=[], help="runs with this tag; repeat it for several")
    add("--name", metavar="NAME", help="runs of this name, such as 'paper*'")
    add("--experiment", metavar="NAME", help="runs of this experiment, such as 'resnet*'")
    add("--state", action="append", default=[], choices=_STATES, help="runs in this state")
    add("--sort", choices=_SORTS, default="started", help="by what (default: the newest first)")
    add("--reverse", action="store_true", help="the other way round")
    add("--limit", type=int, metavar="N", help="the first N of them only")
    add("--wide", action="store_true", help="every column, whatever the terminal's width")
    add("--json", action="store_true", help="a JSON array with every field")
    add("--html", type=Path, metavar="FILE", help="write a page that needs nothing else")
    return parser


def _best(value: float | None, row: RunRow) -> tuple[bool, float]:
    """Key that puts the best value first, and runs without one last."""
    if value is None:
        return True, 0.0
    return False, -value if row.higher_is_better else value


def _chosen(rows: Sequence[RunRow], given: argparse.Namespace) -> list[RunRow]:
    kept = [
        row
        for row in rows
        if set(given.tag) <= set(row.tags)
        and (given.name is None or name_fits(row.name, given.name))
        and (given.experiment is None or name_fits(row.experiment, given.experiment))
        and (not given.state or row.state in given.state)
    ]
    if given.limit is not None and given.limit < 1:
        raise UserError(f"`limit` {given.limit}: must be at least 1")
    ordered = sorted(kept, key=_SORTS[given.sort])
    return (ordered[::-1] if given.reverse else ordered)[: given.limit]


def _plain(row: RunRow) -> dict[str, Any]:
    return dataclasses.asdict(row) | {"path": str(row.path)}


def _no_folder(folder: Path) -> str:
    if folder == Path("runs"):
        return "no runs/ here yet; `ws-learner demo` makes one"
    return f"{folder}: no such folder; runs are in runs/"


def _print(rows: Sequence[RunRow], *, wide: bool) -> None:
    if not rows:
        return
    width = None if wide else terminal_width()
    columns, left_out = fitting(run_columns(rows), drops=_DROPS, width=width)
    heads, cells = zip(*columns, strict=True)
    right = [head in _RIGHT for head in heads]
    sys.stdout.write(text_table(heads, list(zip(*cells, strict=True)), right=right))
    for row in rows:
        if row.reason:
            say(f"{row.id}: {row.state}: {row.reason}")
    if left_out:
        say(f"not shown for lack of room: {', '.join(left_out)} (--wide)")
