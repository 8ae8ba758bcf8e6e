"""Errors that a user can correct: the message names the argument or file, value and remedy.

Messages name arguments in backticks, as in "`nb_epochs` -1: must be a number above 0". The command
line shows them as flags, see `message_style` in `ws_learner.core.progress`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["UserError", "complain", "suggest"]


class UserError(ValueError):
    """Invalid input. The command line prints the message, a line per problem, and exits with 2."""


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
