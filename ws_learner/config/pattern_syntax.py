"""How patterns are spelled. Free of torch, so that a flag is checked before anything is loaded."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from ws_learner.config.registries import PATTERNS
from ws_learner.core import UserError

__all__ = ["AUTO_PATTERNS", "PatternSpec", "parse_pattern_spec", "parse_roles"]

AUTO_PATTERNS = ("unstructured", "4x1", "4x4", "16x4", "2:4")
"""What `auto` stands for: the patterns among which each layer gets its own. N:M are used for layers
that they divide."""

_ALLOWED = (
    "allowed are unstructured, OxI blocks of outputs x inputs such as 4x1, N:M with N of M inputs "
    "kept such as 2:4 (n:4 for any N; 2:4col along the outputs), channelx1, 1xchannel, mha, units, "
    "and patterns of roles such as 1:8@ff+1:4@q,k"
)
_ROLES = {"c": "conv", "conv": "conv", "ff": "ff", "q": "q", "k": "k", "v": "v", "o": "o"}
_ROLES |= {"convs": "conv", "head": "head"}
_ORDER = ("ff", "q", "k", "v", "o", "conv", "head")


@dataclass(frozen=True)
class PatternSpec:
    """A pattern's kind and its two numbers, where it has any.

    Attributes:
        kind: Which family, a name in `PATTERNS`; `any:m` is N:M with an N for each layer,
            `roles` a pattern by role.
        first: Outputs of a block, or the N of N:M.
        second: Inputs of a block, or the M of N:M.
        columns: Groups of N:M run along the outputs.
        parts: Of `roles`: which roles have which pattern.
    """

    kind: str
    first: int = 1
    second: int = 1
    columns: bool = False
    parts: tuple[tuple[tuple[str, ...], PatternSpec], ...] = ()

    def __str__(self) -> str:
        """The canonical spelling."""
        if self.kind == "block":
            return f"{self.first}x{self.second}"
        if self.kind in ("n:m", "any:m"):
            first = self.first if self.kind == "n:m" else "n"
            return f"{first}:{self.second}{'col' if self.columns else ''}"
        if self.kind == "roles":
            return "+".join(f"{pattern}@{','.join(roles)}" for roles, pattern in self.parts)
        return self.kind

    @property
    def sets_ratios(self) -> bool:
        """Whether the pattern alone says how many zeros each layer has."""
        kinds = {pattern.kind for _, pattern in self.parts} or {self.kind}
        return kinds == {"n:m"}

    @property
    def fixed_ratio(self) -> float | None:
        """The ratio that N:M prescribes for every layer, (M - N) / M; None for other patterns."""
        return (self.second - self.first) / self.second if self.kind == "n:m" else None


def parse_pattern_spec(text: str) -> PatternSpec:
    """Understand a pattern's name; case and blanks do not matter.

    A prefix up to the last underscore is left out (`tile_pattern_4x1` is `4x1`). A number between
    asterisks is the one of the outputs, as in tables that print it bold: `***4***x1` is `4x1` and
    `4x***16***` is `16x4`. `1x1` is `unstructured`, `2in4` is `2:4`, `n:8` is N of 8 with an N for
    each layer, `2:4col` has its groups along the outputs. `1:8@ff+1:4@q,k` is a pattern by role.

    Raises:
        UserError: It is no pattern; the line names what is allowed.
    """
    if "@" in text:
        return _by_role(text)
    whole = re.sub(r"\s", "", text).lower()
    name = whole.rpartition("_")[2]
    words = [word for word in (whole, name) if word in PATTERNS and PATTERNS[word].word]
    if words:
        return PatternSpec(kind=words[0])
    if match := re.fullmatch(r"(\**\d+|n)(?::|in)\**(\d+)\**(col)?", name):
        group, columns = int(match[2]), bool(match[3])
        if match[1] == "n" and group > 1:
            return PatternSpec("any:m", 1, group, columns)
        kept = int(match[1].strip("*")) if match[1] != "n" else 0
        if not 0 < kept < group:
            raise UserError(f"`pattern` {text}: N:M keeps N of M, so it needs 0 < N < M")
        return PatternSpec("n:m", kept, group, columns)
    if match := re.fullmatch(r"(\**)(\d+)\**x(\**)(\d+)\**", name):
        outputs, inputs = int(match[2]), int(match[4])
        if match[3] and not match[1]:
            outputs, inputs = inputs, outputs
        if outputs == inputs == 1:
            return PatternSpec("unstructured")
        if outputs and inputs:
            return PatternSpec("block", outputs, inputs)
    raise UserError(f"`pattern` {text}: no such pattern; {_nearest(name)}{_ALLOWED}")


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, (n for n, e in PATTERNS.items() if e.word), n=1)
    return f"did you mean {near[0]}? " if near else ""


def parse_roles(text: str, *, flag: str = "ws_location") -> tuple[str, ...]:
    """Roles in a fixed order, from `ff,q,k`, `FFQK`, `KQFF`, `c` or `attention`.

    `attention` is q, k, v and o. Case and order do not matter; commas and blanks may be left out.

    Raises:
        UserError: There is no such role.
    """
    left = re.sub(r"[\s,+]", "", text.lower()).replace("attention", "qkvo")
    found = re.fullmatch(r"(?:ff|convs?|head|[qkvoc])+", left)
    if not found:
        raise UserError(
            f"`{flag}` {text}: allowed are ff, q, k, v, o, conv (or c), head and attention, in any "
            "combination, such as ff,q,k"
        )
    named = {_ROLES[word] for word in re.findall(r"ff|convs?|head|[qkvoc]", left)}
    return tuple(role for role in _ORDER if role in named)


def _by_role(text: str) -> PatternSpec:
    parts: list[tuple[tuple[str, ...], PatternSpec]] = []
    for part in text.split("+"):
        pattern, _, roles = part.partition("@")
        if not roles or "@" in roles:
            raise UserError(f"`pattern` {text}: write PATTERN@ROLES+PATTERN@ROLES")
        parts.append((parse_roles(roles, flag="ws_pattern"), parse_pattern_spec(pattern)))
    named = [role for roles, _ in parts for role in roles]
    twice = [role for role in named if named.count(role) > 1]
    if twice:
        raise UserError(f"`pattern` {text}: {twice[0]} has two patterns")
    return PatternSpec("roles", parts=tuple(parts))
