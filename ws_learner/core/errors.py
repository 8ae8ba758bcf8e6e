"""Errors that a user can mend: one line that names the flag or file, the value and the remedy."""

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
