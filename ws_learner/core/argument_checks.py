"""Arguments of Python calls checked for their kind, before anything is read. Free of torch."""

from __future__ import annotations

import numbers
from typing import Any

from ws_learner.core.errors import UserError

__all__ = ["as_whole", "check_kind"]


def as_whole(value: Any, *, name: str, least: int = 0) -> int:
    """A whole number of any kind, such as NumPy's, as an int.

    Raises:
        UserError: It is none, or below `least`.
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
        raise UserError(f"`{name}` {value!r}: must be a whole number of at least {least}")
    return int(value)


def check_kind(value: Any, *kinds: type, name: str, give: str) -> None:
    """Refuse a value that is None or of another kind.

    Args:
        value: What was given.
        kinds: Classes that are allowed.
        name: Of the argument.
        give: What to give instead, such as `a Recipe`.

    Raises:
        UserError: It is of none of these kinds.
    """
    if not isinstance(value, kinds):
        found = f"the class {value.__name__}" if isinstance(value, type) else _shown(value)
        raise UserError(f"`{name}`: is {found}; give {give}")


def _shown(value: Any) -> str:
    if value is None or isinstance(value, str | numbers.Number):
        return repr(value)
    kind = type(value).__name__
    return f"an {kind}" if kind[0].lower() in "aeiou" else f"a {kind}"
