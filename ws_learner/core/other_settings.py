"""What a run's folder holds and what was asked for, side by side. Free of torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ws_learner.core.shown_values import shown, shown_repr

__all__ = ["other_settings"]

_MOST = 8
"""Settings that are listed."""


def other_settings(
    made: Mapping[str, Any], asked: Mapping[str, Any], *, given: Collection[str] = ()
) -> str:
    """Why a folder cannot be used for a run; empty if it can.

    Args:
        made: The identity that the folder was made with.
        asked: That of the run.
        given: Names of settings that the user chose: of others none is listed if one of these
            differs.
    """
    changes = list(_changes(made, asked))
    if not changes:
        return ""
    named = all(isinstance(one.get("experiment"), str) for one in (made, asked))
    before, now = (_kind(one, named=named) for one in (made, asked))
    if before != now:
        return f"holds {before}, not {now}; choose another folder"
    parts = {name: set(name.split(".")) for name, _ in changes}
    chosen = [line for name, line in changes if parts[name] & set(given)]
    listed = (chosen or [line for _, line in changes])[:_MOST]
    more = len(changes) - len(listed)
    lines = [*listed, *([f"and {more} more"] if more else [])]
    return (
        f"holds {before} that was made with other settings; choose another folder or give these as "
        "they were:\n  " + "\n  ".join(lines)
    )


def _kind(identity: Mapping[str, Any], *, named: bool) -> str:
    """What a folder of this identity holds, in words, with the experiment if both are `named`."""
    if "plan" in identity:
        return "a sweep"
    of = f" of {shown(identity['experiment'], most=60)}" if named else ""
    return f"a dense training{of}" if identity.get("learner") == "full-prec" else f"a pruning{of}"


def _changes(made: Any, asked: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Name and line of each setting that differs, `recipe.lrn_rate 0.1 -> 0.2`, through tables."""
    if isinstance(made, list) and isinstance(asked, list) and len(made) == len(asked):
        made, asked = (dict(enumerate(values)) for values in (made, asked))
    if isinstance(made, dict) and isinstance(asked, dict):
        for key in sorted(made.keys() | asked.keys(), key=str):
            where = f"{name}.{key}" if name else str(key)
            yield from _changes(made.get(key), asked.get(key), where)
    elif made != asked:
        before, now = shown_repr(made, most=40), shown_repr(asked, most=40)
        yield name, f"{shown(name)} {before} -> {now}"
