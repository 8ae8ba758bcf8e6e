"""How patterns are spelled. Free of torch, so that a flag is checked before anything is loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ws_learner.errors import UserError

__all__ = ["Spelling", "read_spelling"]

Kind = Literal["unstructured", "block", "n:m", "channelx1", "1xchannel", "mha", "units"]

_WORDS: tuple[Kind, ...] = ("unstructured", "channelx1", "1xchannel", "mha", "units")
_ALLOWED = (
    "allowed are unstructured, OxI blocks of outputs x inputs such as 4x1, N:M with N of M inputs "
    "kept such as 2:4, channelx1, 1xchannel, mha and units"
)


@dataclass(frozen=True)
class Spelling:
    """A pattern's kind and its two numbers, where it has any.

    Attributes:
        kind: Which family.
        first: Outputs of a block, or the N of N:M.
        second: Inputs of a block, or the M of N:M.
    """

    kind: Kind
    first: int = 1
    second: int = 1

    def __str__(self) -> str:
        """The canonical spelling."""
        if self.kind == "block":
            return f"{self.first}x{self.second}"
        return f"{self.first}:{self.second}" if self.kind == "n:m" else self.kind

    @property
    def fixed_ratio(self) -> float | None:
        """The ratio that N:M prescribes for every layer, (M - N) / M; None for other patterns."""
        return (self.second - self.first) / self.second if self.kind == "n:m" else None


def read_spelling(text: str) -> Spelling:
    """Understand a pattern's name; case and blanks do not matter.

    A prefix up to the last underscore is left out (`tile_pattern_4x1` is `4x1`). A number between
    asterisks is the one of the outputs, as in tables that print it bold: `***4***x1` is `4x1` and
    `4x***16***` is `16x4`. `1x1` is `unstructured`, `2in4` is `2:4`.

    Raises:
        UserError: It is no pattern; the line names what is allowed.
    """
    name = re.sub(r"\s", "", text).lower().rpartition("_")[2]
    if name in _WORDS:
        return Spelling(kind=name)
    if match := re.fullmatch(r"\**(\d+)(?::|in)\**(\d+)\**", name):
        kept, group = map(int, match.groups())
        if not 0 < kept < group:
            raise UserError(f"--ws_pattern {text}: N:M keeps N of M, so it needs 0 < N < M")
        return Spelling("n:m", kept, group)
    if match := re.fullmatch(r"(\**)(\d+)\**x(\**)(\d+)\**", name):
        outputs, inputs = int(match[2]), int(match[4])
        if match[3] and not match[1]:
            outputs, inputs = inputs, outputs
        if outputs == inputs == 1:
            return Spelling("unstructured")
        if outputs and inputs:
            return Spelling("block", outputs, inputs)
    raise UserError(f"--ws_pattern {text}: no such pattern; {_ALLOWED}")
