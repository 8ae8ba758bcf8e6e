"""Settings of runs as flat text, and those that differ."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ws_learner.core import UserError, shown, shown_repr
from ws_learner.report.runs.comparison import SettingLine
from ws_learner.report.runs.fields import read_object, table

__all__ = ["differing_settings", "same_data", "settings_of"]

_DIGEST = re.compile(r"[0-9a-f]{12,}")
_ABOUT = ("versions", "hardware")
_FROM_PYTHON = ("config.", "agent.")  # the command line has these at the top
_MOST_SETTINGS = 2000
_MOST_DEPTH = 6


def settings_of(run: Path) -> dict[str, str]:
    """The settings of a run that change its result, and its versions and hardware.

    Files and networks stand with the first eight digits of their digest. What cannot be read is
    left out.
    """
    found: dict[str, str] = {}
    for name, parts in (("identity.json", None), ("summary.json", _ABOUT)):
        try:
            values = read_object(run / name)
        except UserError:
            continue
        if parts is not None:
            values = {part: table(values, part) for part in parts}
        for setting, value in _flat(values):
            if len(found) < _MOST_SETTINGS:
                found[setting] = value
    return found


def differing_settings(runs: Sequence[Mapping[str, str]]) -> tuple[SettingLine, ...]:
    """The settings that are not the same in all runs, in the order of the first that has them.

    A setting that no run of a kind has, such as a prune ratio in dense trainings, is not counted
    as different there; nor is any of a run without a record of its settings.

    Args:
        runs: Settings of each run, as `settings_of` reads them.
    """
    kinds = [(run.get("learner"), "model.class" in run, "seed" in run) for run in runs]
    held = {(kind, name) for kind, run in zip(kinds, runs, strict=True) for name in run}
    lines = list[SettingLine]()
    for name in dict.fromkeys(name for run in runs for name in run):
        values = tuple(run.get(name, "-") for run in runs)
        meant = {value for kind, value in zip(kinds, values, strict=True) if (kind, name) in held}
        if len(meant) > 1:
            lines.append(SettingLine(name=name, values=values))
    return tuple(lines)


def same_data(runs: Sequence[Mapping[str, str]]) -> bool:
    """Whether all runs are known to have had the same data."""
    digests = {run.get("data") or run.get("data.digest") for run in runs}
    contents = {run["data.content"] for run in runs if "data.content" in run}
    return len(digests) == 1 and None not in digests and len(contents) <= 1


def _flat(values: Mapping[str, Any], above: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{above}.{shown(key)}" if above else shown(key)
        if isinstance(value, dict) and value and depth < _MOST_DEPTH:
            yield from _flat(value, name, depth + 1)
            continue
        for prefix in _FROM_PYTHON:
            name = name.removeprefix(prefix)
        yield name, _text(value)


def _text(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, str):
        return shown(_DIGEST.sub(lambda found: found[0][:8], value), most=60) or "''"
    if isinstance(value, float):
        return f"{value:.6g}"
    return shown_repr(value, most=60)
