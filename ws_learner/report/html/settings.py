"""The run's settings, and those that differ from their defaults."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ws_learner.report.html.run_files import RunFiles, text

__all__ = ["Settings", "settings_of"]

_ELSEWHERE = {"experiment", "run_dir", "config", "exec_mode"}
_MOST, _MOST_SETTINGS = 300, 500


@dataclass(frozen=True)
class Settings:
    """Settings as text.

    Attributes:
        changed: Name, value and default of those that differ.
        every: Name and value of all.
        known: Whether the run kept the defaults.
    """

    changed: list[tuple[str, str, str]]
    every: list[tuple[str, str]]
    known: bool


def settings_of(files: RunFiles) -> Settings:
    """The settings of a run."""
    made, usual = files.settings, files.defaults
    changed = [
        (text(name, 80), _text(value), _text(usual[name]))
        for name, value in made.items()
        if name in usual and value != usual[name] and name not in _ELSEWHERE
    ]
    every = [(text(name, 80), _text(value)) for name, value in made.items()]
    return Settings(changed[:_MOST_SETTINGS], every[:_MOST_SETTINGS], bool(usual))


def _text(value: Any) -> str:
    if value is None:
        return "none"
    return text(value if isinstance(value, str) else json.dumps(value, default=str), _MOST)
