"""Adjust unset options to fit the ones that are set. Free of torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

__all__ = ["adjust_settings", "change_line"]


def change_line(name: str, before: Any, after: Any, *, why: str) -> str:
    """One line that says what was changed: `--ws_nb_rlouts_min 20 -> 2: ...`."""
    return f"--{name} {_short(before)} -> {_short(after)}: {why}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


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
    adjusted, lines = dict(values), []
    for name, value, reason in _rules(values):
        if reason in given and name not in given:
            adjusted[name] = value
            why = f"--{reason} is {_short(values[reason])}"
            lines.append(change_line(name, values[name], value, why=why))
    return adjusted, tuple(lines)


def _rules(values: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """What does not go together: a setting, what it could be, and the one that asks for it."""
    most, least = values["ws_nb_rlouts"], values["ws_nb_rlouts_min"]
    if least > most >= 1:
        yield "ws_nb_rlouts_min", max(1, most // 2), "ws_nb_rlouts"
        yield "ws_nb_rlouts", 2 * least, "ws_nb_rlouts_min"
    begin, end = values["ws_iter_ratio_beg"], values["ws_iter_ratio_end"]
    if 1 > begin >= end > 0:
        yield "ws_iter_ratio_end", round((1 + begin) / 2, 6), "ws_iter_ratio_beg"
        yield "ws_iter_ratio_beg", round(end / 5, 6), "ws_iter_ratio_end"
    if 1 > values["ws_prune_ratio"] >= values["ws_ratio_max"]:
        yield "ws_ratio_max", 1.0, "ws_prune_ratio"
    elif 1 >= values["ws_ratio_min"] > values["ws_ratio_max"]:
        yield "ws_ratio_max", 1.0, "ws_ratio_min"
    floor, start = values["ddpg_noise_std_finl"], values["ddpg_noise_std_init"]
    if floor > start > 0:
        yield "ddpg_noise_std_finl", start, "ddpg_noise_std_init"
        yield "ddpg_noise_std_init", floor, "ddpg_noise_std_finl"
