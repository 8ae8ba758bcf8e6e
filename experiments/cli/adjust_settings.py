"""Adjust unset options to fit the ones that are set. Free of torch."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from agents import DDPGConfig
from ws_learner.config import WeightSparseConfig
from ws_learner.core import UnsetRule, adjusted_values

__all__ = ["adjust_settings", "as_flags"]

_NAME = re.compile(r"`(\w+)`")


def as_flags(line: str) -> str:
    """A line about settings with their names as flags."""
    return _NAME.sub(r"--\1", line)


def adjust_settings(
    values: Mapping[str, Any], *, given: Collection[str]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Fit the defaults to the settings that were chosen, as far as no data is needed for it.

    The target and the length of the training are never touched, nor is anything in `given`.

    Args:
        values: Every setting.
        given: Names of those that the user chose.

    Returns:
        Every setting, and a line for each that was changed.
    """
    changed, lines = adjusted_values(values, list(_rules(values)), given=given)
    return dict(values) | changed, tuple(map(as_flags, lines))


def _rules(values: Mapping[str, Any]) -> Iterator[UnsetRule]:
    tight = 1 > values["ws_prune_ratio"] >= values["ws_ratio_max"]
    for rule in WeightSparseConfig.unset_rules(values):
        if not (tight and rule[0] == "ws_ratio_max"):
            yield rule
    if tight:
        yield "ws_ratio_max", 1.0, "ws_prune_ratio"
    yield from DDPGConfig.unset_rules(values)
