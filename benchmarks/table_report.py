"""Markdown of a table of cells: means, paired differences from `optimal`, what is missing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.paired_differences import paired_differences
from benchmarks.table_cells import KEYS, Cell
from ws_learner.core import write_text

__all__ = ["REFERENCE", "compared", "report_text", "shown_difference", "write_report"]

REFERENCE = "optimal"
"""The protocol from which the others are subtracted."""

_HEAD = "| protocol | seeds | mean, % | spread over seeds | from dense | kept MACs, % | {ahead} |"


def write_report(
    folder: Path, *, head: str, cells: Sequence[Cell], foot: Iterable[str] = ()
) -> str:
    """Write README.md beside rows.csv, and return its text.

    Args:
        folder: Folder of the table.
        head: Title, command, setting.
        cells: The cells asked for; those without a row are listed as missing.
        foot: Sections after the tables.
    """
    path = folder / "rows.csv"
    rows = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=[*KEYS, "accuracy"])
    text = report_text(rows, head=head, cells=cells, foot=foot)
    write_text(folder / "README.md", text)
    return text


def report_text(
    rows: pd.DataFrame, *, head: str, cells: Sequence[Cell], foot: Iterable[str] = ()
) -> str:
    """The page; `rows` has the columns of `table_cells.cell_row`."""
    parts = [head.rstrip(), _progress(rows, cells)]
    for (network, epochs), part in rows.groupby(["network", "nb_epochs"], sort=False):
        parts += _network(part, f"{network}, {epochs:g} epoch{'s' if epochs != 1 else ''}")
    parts += [*foot, *_made(rows)]
    return "\n\n".join(parts) + "\n"


def compared(rows: pd.DataFrame) -> pd.DataFrame:
    """Means and paired differences of `optimal` by target, for one network and length.

    Args:
        rows: Columns protocol, target, seed, accuracy.

    Returns:
        One row per target and protocol, best first: target, name, seeds, pairs, mean, std, all of
        accuracies as shares, and `ahead` and `half`, the mean paired difference and half the
        width of its 95 % interval; NaN where there is none.
    """
    named = rows.rename(columns={"protocol": "name"})
    there = REFERENCE in set(named["name"])
    reference = REFERENCE if there else str(named["name"].iloc[0])
    table = paired_differences(named, "accuracy", reference=reference)
    table = table[(table["target"] != "all") & table["mean"].notna()]
    table = table.rename(columns={f"{reference} ahead by": "ahead", "+-": "half"})
    table["target"] = table["target"].astype(float)
    counts = named.groupby(["target", "name"])["seed"].nunique()
    table["seeds"] = [counts[row["target"], row["name"]] for row in table.to_dict("records")]
    return table if there else table.assign(ahead=math.nan, half=math.nan)


def shown_difference(ahead: float, half: float) -> str:
    """A difference in points, with half its interval; empty without a pair.

    >>> shown_difference(0.016, 0.004)
    '+1.60 ± 0.40'
    """
    if math.isnan(ahead):
        return ""
    return f"{100 * ahead:+.2f}" + ("" if math.isnan(half) else f" ± {100 * half:.2f}")


def _progress(rows: pd.DataFrame, cells: Sequence[Cell]) -> str:
    known = set(rows["job"]) if "job" in rows else set()
    missing = [cell for cell in cells if cell.name not in known]
    text = f"{len(cells) - len(missing)} of the {len(cells)} cells of this command have run."
    if not missing:
        return text
    named = "; ".join(_grouped(missing, cells))
    return f"**{text}** Missing: {named}."


def _grouped(missing: Sequence[Cell], cells: Sequence[Cell]) -> Iterator[str]:
    """Missing protocols by network, target and seed; `all` for all that the command has there."""
    wanted, groups = _protocols(cells), _protocols(missing)
    for place, protocols in groups.items():
        network, target, seed = place
        named = "all" if protocols == wanted[place] else ", ".join(protocols)
        yield f"{network} at {100 * target:g} %, seed {seed} ({named})"


def _protocols(cells: Sequence[Cell]) -> dict[tuple[str, float, int], list[str]]:
    groups: dict[tuple[str, float, int], list[str]] = {}
    for cell in cells:
        groups.setdefault((cell.network, cell.target, cell.seed), []).append(cell.protocol)
    return groups


def _network(rows: pd.DataFrame, title: str) -> Iterator[str]:
    dense = float(rows["dense"].iloc[0])
    yield f"## {title}"
    yield f"Test accuracy; the dense network has {100 * dense:.2f} %."
    table = compared(rows)
    macs = rows.groupby(["target", "protocol"])["kept_macs"].mean()
    for target, part in table.groupby("target", sort=False):
        lines = [
            f"**{100 * float(str(target)):g} % zeros**\n",
            _HEAD.format(ahead=f"`{REFERENCE}` ahead by, points"),
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        lines += [_line(row, dense, macs) for row in part.to_dict("records")]
        yield "\n".join(lines)


def _line(row: dict[Any, Any], dense: float, macs: Any) -> str:
    ahead = shown_difference(row["ahead"], row["half"])
    spread = "" if math.isnan(row["std"]) else f"{100 * row['std']:.2f}"
    kept = 100 * macs[row["target"], row["name"]]
    return (
        f"| {row['name']} | {row['seeds']} | {100 * row['mean']:.2f} | {spread} "
        f"| {100 * (row['mean'] - dense):+.2f} | {kept:.1f} | {ahead} |"
    )


def _made(rows: pd.DataFrame) -> Iterator[str]:
    """Machine, time and commit."""
    if not len(rows):
        return
    machines = rows[["cpu", "threads", "bf16"]].drop_duplicates().to_dict("records")
    named = "; ".join(
        f"{one['cpu']}, {one['threads']} thread per cell, {'bf16' if one['bf16'] else 'fp32'}"
        for one in machines
    )
    searches = rows.drop_duplicates(["network", "protocol", "target", "zeros", "rollouts"])
    allocation, training = searches["allocation_seconds"].sum(), rows["seconds"].sum()
    commits = ", ".join(sorted(set(rows["commit"].fillna("").astype(str)) - {""})) or "unknown"
    yield "## Made"
    yield (
        f"{named}, shared with other work. Processor time {_minutes(allocation)} for allocations "
        f"and {_minutes(training)} for trainings, which took {_minutes(rows['wall_seconds'].sum())}"
        f" by the clock. Commit {commits}. All rows: [rows.csv](rows.csv)."
    )


def _minutes(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
