"""Compare runs: settings that differ, metrics with 95 % intervals, ratios side by side.

RUN is a folder, a name given by --name, the beginning of a folder's name, or `last`. Differences
are against the first run, A. The intervals are of the sampling of examples alone.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from experiments.cli.flag_aliases import readable_name
from experiments.cli.runs.text_table import terminal_width, text_table
from experiments.cli.verb_parser import VerbParser
from ws_learner.core import UserError, complain, refuse_unwritable, say, shown, write_text
from ws_learner.report import (
    Comparison,
    compare_runs,
    comparison_page,
    find_run,
    is_run,
    letters,
    metric_cells,
)

__all__ = ["main"]

_NAME, _CELL, _GAP = 30, 16, 2
_RISKY = ("=", "+", "-", "@")  # begins a formula in a spreadsheet


def main(argv: Sequence[str] | None = None, *, prog: str = "ws-learner compare") -> int:
    """Print the comparison; return the exit code: 0, or 2 after bad input."""
    parser = VerbParser(
        prog=prog, description=__doc__, example="ws-learner compare last runs/<one>"
    )
    add = parser.add_argument
    add("run", nargs="+", metavar="RUN", help="two runs or more")
    add("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="where names are found")
    add("--csv", action="store_true", help="print comma-separated values, numbers in full")
    add("--html", type=Path, metavar="FILE", help="write a page that needs nothing else")
    given = parser.parse_args(argv)
    try:
        if given.html is not None:
            refuse_unwritable(given.html, setting="html", makes_folders=False)
        if len(given.run) < 2:
            raise UserError(
                f"compare {given.run[0]}: needs two runs, as in `ws-learner compare last "
                f"{given.run[0]}`; `ws-learner runs` lists them"
            )
        runs = [find_run(run, folder=given.runs) for run in given.run]
        complain(f"`run` {run}: holds no run" for run in runs if not is_run(run))
        found = _as_flags(compare_runs(runs))
        if given.html is not None:
            write_text(given.html, comparison_page(found))
    except UserError as error:
        say(f"error: {parser.spell(str(error))}")
        return 2
    if given.html is not None:
        say(f"wrote {given.html}")
    elif given.csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows(_lines(found))
    else:
        sys.stdout.write("\n".join(_blocks(found)))
        for note in found.notes:
            say(note)
    return 0


def _as_flags(found: Comparison) -> Comparison:
    """The comparison with settings as the command line spells them."""
    settings = (replace(line, name=readable_name(line.name)) for line in found.settings)
    return replace(found, settings=tuple(settings))


def _blocks(found: Comparison) -> Iterator[str]:
    """The tables, each with as many runs as the terminal is wide for; the first is in all."""
    names = letters(len(found.rows))
    about = [
        (name, row.name or row.id, ", ".join(row.tags), row.state)
        for name, row in zip(names, found.rows, strict=True)
    ]
    yield text_table(("", "run", "tags", "state"), about)
    metrics = [cells for line in found.metrics for cells in metric_cells(line)]
    yield from _tables("metric", metrics, names)
    settings = [(line.name, list(line.values)) for line in found.settings]
    yield from _tables("setting that differs", settings, names)
    if not settings:
        yield "no setting differs\n"
    ratios = [
        (line.layer, ["-" if one is None else f"{one:.4f}" for one in line.values])
        for line in found.ratios
    ]
    yield from _tables("prune ratio of layer", ratios, names)


def _tables(
    head: str, rows: Sequence[tuple[str, Sequence[str]]], names: Sequence[str]
) -> Iterator[str]:
    if not rows:
        return
    width = terminal_width() or 10**6
    wide = max(_CELL, min(24, (width - _NAME) // len(names) - _GAP))
    many = max(1, (width - _NAME) // (wide + _GAP) - 1)
    others = list(range(1, len(names)))
    for begin in range(0, len(others), many):
        places = [0, *others[begin : begin + many]]
        lines = [
            [_cut(name, _NAME), *(_cut(cells[place], wide) for place in places)]
            for name, cells in rows
        ]
        heads = [head, *(names[place] for place in places)]
        yield text_table(heads, lines, right=[False, *(True for _ in places)])


def _cut(text: str, most: int) -> str:
    return shown(text, most=most)


def _lines(found: Comparison) -> Iterator[list[str]]:
    """Rows of the CSV: a kind, a name, a value per run."""
    yield ["kind", "name", *(_plain(row.name or row.id) for row in found.rows)]
    for setting in found.settings:
        yield ["setting", _plain(setting.name), *map(_plain, setting.values)]
    for line in found.metrics:
        yield ["metric", _plain(line.name), *map(_number, line.values)]
        for place, end in enumerate(("low", "high")):
            if any(line.intervals):
                ends = [None if one is None else one[place] for one in line.intervals]
                yield [end, _plain(line.name), *map(_number, ends)]
        for end in ("value", "low", "high") if any(line.differences) else ():
            parts = [None if one is None else getattr(one, end) for one in line.differences]
            yield [f"difference {end}", _plain(line.name), *map(_number, parts)]
    for ratio in found.ratios:
        yield ["ratio", _plain(ratio.layer), *map(_number, ratio.values)]


def _number(value: float | None) -> str:
    return "" if value is None else repr(value)


def _plain(text: str) -> str:
    """Text of a run's files, which no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_RISKY) and text != "-" else text
