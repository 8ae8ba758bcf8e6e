"""Errors that a user can correct: one line names the argument or file, the value and the remedy.

Messages name arguments in backticks, as in "`nb_epochs` -1: must be a number above 0". The command
line shows them as flags, see `message_style` in `ws_learner.core.progress`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["UserError", "complain", "suggest"]


class UserError(ValueError):
    """Bad input. The command line prints the message, one line a problem, and exits with code 2."""


def complain(problems: Iterable[str]) -> None:
    """Raise one error for all of them, one a line, so that they can be mended at one go.

    Raises:
        UserError: There is a problem.
    """
    found = [line.strip() for problem in problems for line in problem.splitlines()]
    if len(found) > 1:
        found = [f"{len(found)} settings need a change:", *found]
    if found:
        raise UserError("\n  ".join(found))


def suggest(value: str, allowed: Iterable[str]) -> str:
    """Say what is allowed and, if one lies near, which name was probably meant.

    Example:
        >>> suggest("unifrom", ["uniform", "heurist"])
        'did you mean uniform? Allowed: heurist, uniform'
    """
    names = sorted(set(allowed))
    near = difflib.get_close_matches(value, names, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}Allowed: {', '.join(names)}"
