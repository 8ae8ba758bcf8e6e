"""Regular expressions of people and files: a bad one, or one that takes too long, is one line."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import regex

from ws_learner.core.errors import UserError
from ws_learner.core.shown_values import shown, shown_repr

__all__ = ["Expression", "compile_expression"]

_SECONDS = 2.0
_LONGEST = 2000


@dataclass(frozen=True, kw_only=True)
class Expression:
    """A regular expression in Python's syntax.

    Some expressions take time exponential in the length of a name, so each search has a limit.

    Attributes:
        text: As given.
        said: What a message calls it.
        seconds: Limit of one search.
    """

    text: str
    said: str
    seconds: float = _SECONDS

    def search(self, name: str) -> bool:
        """Whether a part of the name fits.

        Raises:
            UserError: It is no expression, or takes longer than the limit.
        """
        return self._fits(name, whole=False)

    def fullmatch(self, name: str) -> bool:
        """Whether the whole name fits; raises as `search` does."""
        return self._fits(name, whole=True)

    def _fits(self, name: str, *, whole: bool) -> bool:
        compiled = _compiled(self.text, self.said)
        find = compiled.fullmatch if whole else compiled.search
        try:
            return find(name, timeout=self.seconds) is not None
        except TimeoutError:
            raise UserError(
                f"{self.said}: takes more than {self.seconds:g} s on {shown(name)}; write "
                "it without repeats inside repeats"
            ) from None


def compile_expression(text: str, *, said: str = "") -> Expression:
    """Read a regular expression.

    Args:
        text: In Python's syntax.
        said: What a message calls it; empty: its text in quotes.

    Raises:
        UserError: It is none, or longer than 2,000 characters.
    """
    said = said or shown_repr(text)
    _compiled(text, said)
    return Expression(text=text, said=said)


@lru_cache(maxsize=512)
def _compiled(text: str, said: str) -> regex.Pattern[str]:
    if len(text) > _LONGEST:
        raise UserError(f"{said}: longer than {_LONGEST} characters")
    try:
        return regex.compile(text)
    except regex.error as error:
        raise UserError(f"{said}: is no regular expression ({error})") from None
