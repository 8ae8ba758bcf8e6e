"""A job's log without Ray's own notices, as it arrives in pieces."""

from __future__ import annotations

import re

__all__ = ["QuietLog"]

_NOTICE = re.compile(
    r"(?:\x1b\[\d+m)*"
    r"(?:\([\w:. =-]+ pid=\d+(?:, ip=[\d.]+)?\) ?(?:\x1b\[\d+m)* ?)?"
    r"(?:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+\tINFO \S+\.py:\d+ -- |Running entrypoint for job )"
)
"""Ray's messages of level INFO, of the job or of an actor; warnings and errors are kept."""


class QuietLog:
    r"""Leaves out Ray's notices; everything else passes, whole lines at a time.

    Example:
        >>> log = QuietLog()
        >>> log.feed("Running entrypoint for job x: python\ntraini") + log.feed("ng\n")
        'training\n'
    """

    def __init__(self) -> None:
        self._begun = ""

    def feed(self, piece: str) -> str:
        """The lines that a piece ends, without notices."""
        *lines, self._begun = (self._begun + piece).split("\n")
        return "".join(f"{line}\n" for line in lines if not _NOTICE.match(line))

    def rest(self) -> str:
        """What has no end of line, once the log has ended."""
        rest, self._begun = self._begun, ""
        return "" if _NOTICE.match(rest) else rest
