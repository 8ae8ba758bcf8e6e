"""Why a list of runs is empty: which filter leaves none, and what there is to choose from."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ws_learner.core import name_fits, shown
from ws_learner.report import RunRow

__all__ = ["why_none"]

_MOST = 8


@dataclass(frozen=True, kw_only=True)
class _Filter:
    """What a flag asks for: in words, its kind, every run's own values, those that fit."""

    asks: str
    kind: str
    values: list[str]
    fits: list[bool]


def why_none(rows: Sequence[RunRow], given: argparse.Namespace) -> str:
    """A line for a list without rows.

    Args:
        rows: The runs of the folder, before they were chosen from.
        given: `folder` and the filters `tag`, `name`, `experiment` and `state`.
    """
    if not rows:
        return f"no runs in {given.folder}/ yet; `ws-learner demo` makes one"
    these = "the run" if len(rows) == 1 else f"the {len(rows)} runs"
    filters = list(_filters(rows, given))
    for one in filters:
        if not any(one.fits):
            known = _listed(sorted(set(one.values)))
            return f"none of {these} in {given.folder}/ {one.asks}; {one.kind} in use: {known}"
    every = " and ".join(one.asks for one in filters)
    return f"none of {these} in {given.folder}/ {every} at once"


def _filters(rows: Sequence[RunRow], given: argparse.Namespace) -> Iterator[_Filter]:
    for tag in given.tag:
        yield _Filter(
            asks=f"has the tag {shown(tag)}",
            kind="tags",
            values=[one for row in rows for one in row.tags],
            fits=[tag in row.tags for row in rows],
        )
    for name, verb in (("name", "is called"), ("experiment", "is of the experiment")):
        wanted = getattr(given, name)
        if wanted is not None:
            found = [str(getattr(row, name)) for row in rows]
            yield _Filter(
                asks=f"{verb} {shown(wanted)}",
                kind=f"{name}s",
                values=[one for one in found if one],
                fits=[name_fits(one, wanted) for one in found],
            )
    if given.state:
        yield _Filter(
            asks=f"is {' or '.join(given.state)}",
            kind="states",
            values=[row.state for row in rows],
            fits=[row.state in given.state for row in rows],
        )


def _listed(words: Sequence[str]) -> str:
    more = f" and {len(words) - _MOST} more" if len(words) > _MOST else ""
    return (", ".join(shown(word) for word in words[:_MOST]) or "none") + more
