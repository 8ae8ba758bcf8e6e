"""Errors that a user can correct: the message names the argument or file, value and remedy.

Messages name arguments in backticks, as in "`nb_epochs` -1: must be a number above 0". The command
line shows them as flags, see `message_style` in `ws_learner.core.progress`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable

from ws_learner.core.shown_values import shown

__all__ = ["UserError", "check_all", "complain", "plain_lines", "suggest"]

_LINE, _LINES = 8000, 200


class UserError(ValueError):
    """Invalid input. The command line prints the message, a line per problem, and exits with 2.

    Control characters of a message are escaped, and its lines cut to a length that can be read:
    values may come from files of any origin.
    """

    def __init__(self, message: object = "", *more: object) -> None:
        super().__init__(plain_lines(str(message)), *more)


def plain_lines(text: str) -> str:
    """The text without control characters but line ends; long lines and many are cut."""
    if text.isprintable() and len(text) <= _LINE:
        return text
    lines = text.split("\n")
    if len(lines) > _LINES:
        lines = [*lines[:_LINES], f"... and {len(lines) - _LINES} lines more"]
    return "\n".join(shown(line, most=_LINE) for line in lines)


def complain(problems: Iterable[str]) -> None:
    """Raise one error that lists all problems, one per line; do nothing if there are none.

    Raises:
        UserError: There is at least one problem.
    """
    found = [line.strip() for problem in problems for line in problem.splitlines()]
    if len(found) > 1:
        found = [f"{len(found)} settings need a change:", *found]
    if found:
        raise UserError("\n  ".join(found))


def check_all(*checks: Callable[[], object]) -> None:
    """Make every check, and raise one error that lists what any of them refuses.

    Raises:
        UserError: At least one does.
    """
    problems: list[str] = []
    for check in checks:
        try:
            check()
        except UserError as error:
            lines = str(error).splitlines()
            problems += [line for line in lines if not line.endswith(" settings need a change:")]
    complain(problems)


def suggest(value: str, allowed: Iterable[str]) -> str:
    """List the allowed names, and first the closest one to `value`, if any is close.

    Example:
        >>> suggest("unifrom", ["uniform", "heurist"])
        'did you mean uniform? Allowed: heurist, uniform'
    """
    names = sorted(set(allowed))
    lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(value.lower(), lower, n=1)
    hint = f"did you mean {lower[near[0]]}? " if near else ""
    return f"{hint}Allowed: {', '.join(names)}"
