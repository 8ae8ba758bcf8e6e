"""Settings that were left at their defaults give way to those that were chosen. Free of torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar, Self

from ws_learner.core.progress import say

__all__ = ["FitsUnset", "UnsetRule", "adjusted_line", "adjusted_values", "chosen_settings"]

UnsetRule = tuple[str, Any, str]
"""What does not go together: a setting, what it could be, and the one that asks for it."""


class FitsUnset:
    """Base of settings, as frozen dataclasses, whose defaults give way to what the caller chose.

    An instance knows which arguments it was made with. After `dataclasses.replace` these are all,
    so that nothing gives way then.
    """

    _chosen: ClassVar[frozenset[str]]

    def __new__(cls, *_: Any, **given: Any) -> Self:
        """Note the names of the arguments."""
        made = super().__new__(cls)
        object.__setattr__(made, "_chosen", frozenset(given))
        return made

    @classmethod
    def unset_rules(cls, values: Mapping[str, Any]) -> Iterator[UnsetRule]:
        """Pairs of settings that do not go together under `values`."""
        yield from ()

    def fit_unset(self) -> None:
        """Change what was not chosen, with a line for each change; for `__post_init__`."""
        rules = list(self.unset_rules(vars(self)))
        values, lines = adjusted_values(vars(self), rules, given=self._chosen)
        for name, value in values.items():
            object.__setattr__(self, name, value)
        for line in lines:
            say(f"adjusted: {line}")


def adjusted_values(
    values: Mapping[str, Any], rules: Collection[UnsetRule], *, given: Collection[str]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The values that give way, by name, and a line for each.

    Args:
        values: Every setting.
        rules: See `UnsetRule`.
        given: Names of those that the user chose, which never give way.
    """
    changed, lines = {}, []
    for name, value, reason in rules:
        if reason in given and name not in given:
            changed[name] = value
            why = f"`{reason}` is {_short(values[reason])}"
            lines.append(adjusted_line(name, values[name], value, why=why))
    return changed, tuple(lines)


def adjusted_line(name: str, before: Any, after: Any, *, why: str) -> str:
    """One line that says what was changed: `ws_nb_rlouts_min` 20 -> 2: ..."""
    return f"`{name}` {_short(before)} -> {_short(after)}: {why}"


def chosen_settings(settings: Any) -> frozenset[str]:
    """Names of the settings of a dataclass that its maker chose.

    Known are the arguments of a class that `FitsUnset`. Of others, and after
    `dataclasses.replace`, those count that differ from their default.
    """
    fields = dataclasses.fields(settings)
    given: frozenset[str] = getattr(settings, "_chosen", frozenset())
    if given and len(given) < len(fields):
        return given
    return frozenset(field.name for field in fields if _differs(settings, field))


def _differs(settings: Any, field: dataclasses.Field[Any]) -> bool:
    if field.default is dataclasses.MISSING:
        return True
    return bool(getattr(settings, field.name) != field.default)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
