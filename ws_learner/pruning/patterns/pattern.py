"""Patterns: which weights are kept or pruned together.

A pattern cuts a tensor into units. Scores are pooled over each unit, and the units of the smallest
scores are pruned. A weight (O, I, *kernel) is looked at as a matrix (O, taps x I): a row per
output, and along it, for one kernel tap after the other, all inputs. Units never reach from one
row, or from one end of the matrix, into another; where a pattern does not divide a tensor, the
units at its edges are smaller ("padded").
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ws_learner.config import PATTERNS, PatternSpec, load_object, parse_pattern_spec
from ws_learner.core import UserError, check_choice
from ws_learner.pruning.patterns.blocks import (
    BlockPattern,
    ChannelPattern,
    HeadPattern,
    UnitPattern,
)
from ws_learner.pruning.patterns.group_base import PoolName
from ws_learner.pruning.patterns.mask import keep_largest
from ws_learner.pruning.patterns.nm import NM
from ws_learner.pruning.patterns.per_layer_nm import PerLayerNM
from ws_learner.pruning.patterns.unit_counts import Classes, Side

__all__ = [
    "NM",
    "BlockPattern",
    "ByRole",
    "ChannelPattern",
    "HeadPattern",
    "Pattern",
    "PerLayerNM",
    "PerLayerPatterns",
    "PoolName",
    "UnitPattern",
    "Unstructured",
    "as_pattern",
    "convert_pattern",
    "parse_pattern",
]


class Pattern(Protocol):
    """Turns the scores of single weights into a mask. Shapes are those of weights, outputs first.

    A weight in another layout has its pattern wrapped, see `patterns/laid_out.py`.

    Frozen and hashable; `str` gives the canonical spelling.
    """

    def mask(self, score: Tensor, zeros: int, *, pool: PoolName = "mean") -> Tensor:
        """Return a bool mask of the score's shape, True = kept, with `zeros` entries False.

        Among units of equal score the first in the order of `pooled` goes first.

        Raises:
            ValueError: No whole units make `zeros`, see `feasible`; or a score is NaN.
        """

    def feasible(self, shape: tuple[int, ...], zeros: int, *, side: Side = "nearest") -> int:
        """Return the number of zeros nearest to `zeros` that whole units can make.

        Args:
            shape: Of the weight.
            zeros: 0 or more.
            side: `down` allows no more than `zeros`, `up` no fewer unless there are no more units.
        """

    def classes(self, shape: tuple[int, ...]) -> Classes:
        """Return (size, count) of the units that prune anything, one pair for each size."""

    def sizes(self, shape: tuple[int, ...]) -> Tensor:
        """Return how many weights each of the U units prunes, (U,) int64."""

    def divides(self, shape: tuple[int, ...]) -> bool:
        """Return whether all units of a weight of this shape are whole."""

    def pooled(self, score: Tensor, pool: PoolName = "mean") -> Tensor:
        """Return one score for each unit, (U,): mean, sum or max over the weights it prunes."""

    def expand(self, keep: Tensor, score: Tensor) -> Tensor:
        """Return the mask, of the score's shape, that keeps the units that `keep` (U,) keeps."""

    def spread(self, units: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return a tensor of `shape` with each unit's value of `units` (U,) at all its places."""

    def norms(self, weight: Tensor) -> Tensor:
        """Return the Euclidean norm of each weight's unit, at the weight's place and shape."""


@dataclass(frozen=True)
class Unstructured:
    """Unstructured pruning: every weight is its own unit."""

    def __str__(self) -> str:
        return "unstructured"

    def mask(self, score: Tensor, zeros: int, *, pool: PoolName = "mean") -> Tensor:
        """Keep the largest scores; see `keep_largest`."""
        check_choice(pool, PoolName, name="pool")
        return keep_largest(score, zeros)

    def feasible(self, shape: tuple[int, ...], zeros: int, *, side: Side = "nearest") -> int:
        """See `Pattern`: any number."""
        return min(max(zeros, 0), math.prod(shape))

    def classes(self, shape: tuple[int, ...]) -> Classes:
        """See `Pattern`: all alike."""
        return ((1, math.prod(shape)),)

    def sizes(self, shape: tuple[int, ...]) -> Tensor:
        """See `Pattern`: ones."""
        return torch.ones(math.prod(shape), dtype=torch.int64)

    def divides(self, shape: tuple[int, ...]) -> bool:
        """See `Pattern`: always."""
        return True

    def pooled(self, score: Tensor, pool: PoolName = "mean") -> Tensor:
        """See `Pattern`: the scores themselves, flat."""
        check_choice(pool, PoolName, name="pool")
        return score.detach().reshape(-1)

    def expand(self, keep: Tensor, score: Tensor) -> Tensor:
        """See `Pattern`."""
        return keep.reshape(score.shape)

    def spread(self, units: Tensor, shape: tuple[int, ...]) -> Tensor:
        """See `Pattern`."""
        return units.reshape(shape)

    def norms(self, weight: Tensor) -> Tensor:
        """See `Pattern`: absolute values."""
        return weight.detach().abs()


@dataclass(frozen=True)
class ByRole(Unstructured):
    """A pattern for each role; `pruning/layers/layer_plan.py` looks the roles up in a network.

    Until then only `str` means anything.

    Attributes:
        parts: (role, pattern) pairs; weights of other roles stay dense.
        spelled: The canonical spelling.
    """

    parts: tuple[tuple[str, Pattern], ...]
    spelled: str

    def __str__(self) -> str:
        return self.spelled


@dataclass(frozen=True)
class PerLayerPatterns(Unstructured):
    """A pattern for each layer by itself; `build_pattern_plan` looks the layers up.

    Until then only `str` means anything. Not for patterns that several layers share, as heads.

    Example:
        >>> patterns = PerLayerPatterns.of({"0.weight": "4x1", "2.weight": "2:4"})
        >>> str(patterns), str(patterns.by_layer["0.weight"])
        ('per layer (4x1, 2:4)', '4x1')

    Attributes:
        parts: (parameter name, pattern) pairs.
    """

    parts: tuple[tuple[str, Pattern], ...]

    @classmethod
    def of(cls, patterns: Mapping[str, Pattern | str]) -> PerLayerPatterns:
        """From parameter name -> pattern, or its spelling.

        Raises:
            UserError: One is no pattern, or one that several layers share.
        """
        parts = tuple((name, as_pattern(pattern)) for name, pattern in patterns.items())
        for name, pattern in parts:
            if isinstance(pattern, ByRole | HeadPattern | PerLayerPatterns):
                raise UserError(
                    f"`pattern` {pattern} of {name}: several layers share its units or roles; give "
                    "it for the whole network, or another one for this layer"
                )
        return cls(parts)

    @property
    def by_layer(self) -> dict[str, Pattern]:
        """Parameter name -> pattern."""
        return dict(self.parts)

    def __str__(self) -> str:
        return f"per layer ({', '.join(dict.fromkeys(str(pattern) for _, pattern in self.parts))})"


def parse_pattern(text: str) -> Pattern:
    """The pattern of a name, see `parse_pattern_spec`. `mha` still lacks the number of heads.

    Example:
        >>> str(parse_pattern("tile_pattern_4x1")), parse_pattern("2in4")
        ('4x1', NM(n=2, m=4))

    Raises:
        UserError: The text is not a pattern.
    """
    return _made(parse_pattern_spec(text))


def as_pattern(
    given: Pattern | str | Mapping[str, Pattern | str], *, name: str = "pattern"
) -> Pattern:
    """A pattern, or that of a name.

    Args:
        given: The pattern, or its spelling such as `2:4`, or either for each layer.
        name: Of the argument, for messages.

    Raises:
        UserError: It is none of these.
    """
    if isinstance(given, str):
        return parse_pattern(given)
    if isinstance(given, Mapping):
        return PerLayerPatterns.of(given)
    if isinstance(given, type) or not (hasattr(given, "mask") and hasattr(given, "pooled")):
        raise UserError(
            f"`{name}` {given!r}: must be a pattern such as NM(2, 4), or its spelling such as "
            "'2:4' or '4x1', or a dict of parameter name -> pattern"
        )
    return given


def convert_pattern(settings: object) -> None:
    """Replace the spelling in a settings' field `pattern` by the pattern; for `__post_init__`."""
    object.__setattr__(settings, "pattern", as_pattern(settings.pattern))  # type: ignore[attr-defined]


def _made(spelling: PatternSpec) -> Pattern:
    made: Pattern = load_object(PATTERNS[spelling.kind].build)(spelling)
    return made


def build_unstructured(spelling: PatternSpec) -> Unstructured:
    """Single weights; this and those below are what `PATTERNS` names."""
    return Unstructured()


def build_block(spelling: PatternSpec) -> BlockPattern:
    """Blocks of outputs by inputs."""
    return BlockPattern(spelling.first, spelling.second)


def build_nm(spelling: PatternSpec) -> NM:
    """N of M."""
    return NM(spelling.first, spelling.second, columns=spelling.columns)


def build_any_m(spelling: PatternSpec) -> PerLayerNM:
    """N of M with an N for each layer."""
    return PerLayerNM(spelling.second, columns=spelling.columns)


def build_channelx1(spelling: PatternSpec) -> ChannelPattern:
    """Whole inputs."""
    return ChannelPattern("inputs")


def build_1xchannel(spelling: PatternSpec) -> ChannelPattern:
    """Whole outputs."""
    return ChannelPattern("outputs")


def build_mha(spelling: PatternSpec) -> HeadPattern:
    """Attention heads, whose number a network tells."""
    return HeadPattern()


def build_units(spelling: PatternSpec) -> UnitPattern:
    """Heads and neurons, which a network tells."""
    return UnitPattern()


def build_roles(spelling: PatternSpec) -> ByRole:
    """A pattern for each role."""
    parts = ((role, _made(part)) for roles, part in spelling.parts for role in roles)
    return ByRole(tuple(parts), str(spelling))
