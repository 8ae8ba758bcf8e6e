"""Which choices each layer has: patterns that fit it, counts of zeros, number formats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from envs import LayerRow
from ws_learner.config import PATTERNS, PatternSpec, parse_pattern_spec
from ws_learner.core import LayerChoice, NumberFormat, UserError
from ws_learner.pruning import (
    NM,
    PatternPlan,
    TrainedBy,
    Unstructured,
    build_pattern_plan,
    counts_of,
    is_trainable,
    layout_of,
    parameter_of,
    parse_pattern,
)

__all__ = ["CHOICE_DENSITIES", "DENSE", "ChoiceGrid", "Remainder", "choice_patterns"]

CHOICE_DENSITIES = (0.7, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02)
"""Densities of the choices of a pattern, but for N:M, whose counts are those of whole layers."""

DENSE = LayerChoice(pattern="unstructured", zeros=0)
"""The layer as it is."""

Remainder = Literal["pad", "skip", "error"]
_ALONE = ("unstructured", "block", "n:m", "any:m", "1xchannel", "channelx1")


@dataclass(frozen=True, kw_only=True)
class ChoiceGrid:
    """The choices of each layer.

    Attributes:
        choices: L tuples; the first choice is `DENSE`, then come the other formats' and patterns',
            each by ascending zeros.
        plans: Pattern of each layer that it fits, by the pattern's spelling.
    """

    choices: tuple[tuple[LayerChoice, ...], ...]
    plans: Mapping[str, PatternPlan]

    @classmethod
    def build(
        cls,
        model: nn.Module,
        layers: Sequence[LayerRow],
        *,
        patterns: Iterable[str],
        dtypes: Iterable[NumberFormat],
        remainder: Remainder,
        trained: TrainedBy,
        pool: Literal["mean", "sum", "max"],
        levels: Mapping[str, Mapping[str, Sequence[int]]],
        without: Mapping[NumberFormat, Iterable[str]],
        limits: Mapping[str, tuple[int, int]] | None = None,
    ) -> ChoiceGrid:
        """Find what fits each layer. Exempt layers have one choice, `DENSE`.

        Args:
            model: The network.
            layers: Its table, L rows.
            patterns: Spellings.
            dtypes: Number formats; the dense fp32 layer is always a choice.
            remainder: What to do with a layer that blocks do not divide; N:M need layers that they
                divide.
            trained: How the method trains patterns; layers have no pattern that it cannot train.
            pool: How magnitudes are pooled over a unit.
            levels: Pattern -> layer -> counts of zeros, in place of `CHOICE_DENSITIES`.
            without: Layers that lack a number format.
            limits: Layer -> least and most zeros, which are choices, too; the choices of such a
                layer but the first keep to them. Equal ones become the nearest counts.

        Raises:
            UserError: A pattern does not stand alone in a layer; `remainder` is error and a
                pattern does not divide a layer; no pattern fits any layer, or makes the zeros
                that a layer must have.
        """
        spellings = choice_patterns(patterns)
        plans = {
            str(spec): _plan(model, layers, spec, remainder=remainder, trained=trained, pool=pool)
            for spec in spellings
        }
        open_ = sum(not row.exempt for row in layers)
        if open_ and not any(plan.patterns for plan in plans.values()):
            raise UserError(
                f"`ws_pattern` {','.join(plans)}: none of the patterns fits one of the {open_} "
                "layers, or the method cannot train it there; give others, or another `ws_method`"
            )
        lacking = {dtype: set(names) for dtype, names in without.items()}
        choices = []
        for row in layers:
            formats = [d for d in dtypes if row.name not in lacking.get(d, ())]
            own = None if row.exempt else (limits or {}).get(row.name)
            zeros: dict[str, Sequence[int]] = {
                pattern: _limited(
                    levels.get(pattern, {}).get(row.name) or _counts(plan, row), plan, row, own
                )
                for pattern, plan in plans.items()
                if row.name in plan.patterns
            }
            if own is not None and own[0] == own[1]:
                zeros = _nearest(zeros, own[0], within=row.weights // 100)
            if own is not None and own[0] and not any(zeros.values()):
                raise UserError(
                    f"`ws_pattern` {','.join(plans)}: none of the patterns makes {own[0]} to "
                    f"{own[1]} zeros in {row.name} of {row.weights} weights, which it must have; "
                    "add unstructured, or change `ws_min_ratios`, `ws_fixed_ratios`, "
                    "`ws_ratio_min` or `ws_keep_zeros`"
                )
            found = [DENSE]
            for dtype in () if row.exempt else formats:
                if dtype != DENSE.dtype and not (own and own[0]):
                    found.append(LayerChoice(pattern=DENSE.pattern, zeros=0, dtype=dtype))
                for pattern, counts in zeros.items():
                    found += [
                        LayerChoice(pattern=pattern, zeros=count, dtype=dtype) for count in counts
                    ]
            choices.append(tuple(found))
        return cls(choices=tuple(choices), plans=plans)


def choice_patterns(patterns: Iterable[str]) -> tuple[PatternSpec, ...]:
    """The patterns, each once.

    Raises:
        UserError: One is spelled wrong, or is decided by several layers together.
    """
    found = tuple(dict.fromkeys(parse_pattern_spec(text) for text in patterns))
    for spec in found:
        if spec.kind not in _ALONE:
            words = ", ".join(kind for kind in PATTERNS if kind in _ALONE and PATTERNS[kind].word)
            raise UserError(
                f"`ws_pattern` {spec}: cannot be one of several patterns, since layers share its "
                f"units or roles; allowed are {words}, blocks such as 4x1 and N:M such as 2:4"
            )
    if not found:
        raise UserError("`ws_pattern`: names no pattern; give at least one, such as unstructured")
    return found


def _plan(
    model: nn.Module,
    layers: Sequence[LayerRow],
    spec: PatternSpec,
    *,
    remainder: Remainder,
    trained: TrainedBy,
    pool: Literal["mean", "sum", "max"],
) -> PatternPlan:
    """The plan of the layers that the pattern fits."""
    pattern = parse_pattern(str(spec))
    open_ = [row.name for row in layers if not row.exempt]
    if not isinstance(pattern, Unstructured):  # others need to know outputs and inputs
        shapes = {name: parameter_of(model, name).shape for name in open_}
        open_ = [n for n in open_ if layout_of(model, n).known or len(shapes[n]) == 2]
    plan = build_pattern_plan(model, open_, pattern=pattern, pool=pool)
    whole = {name for name, own in plan.patterns.items() if own.divides(plan.shapes[name])}
    by_input = isinstance(pattern, NM) or spec.kind == "any:m"
    if remainder == "error" and not by_input and len(whole) < len(open_):
        name = next(name for name in open_ if name not in whole)
        raise UserError(
            f"`remainder` error: the pattern {spec} does not divide {name} of shape "
            f"{plan.shapes[name]}; pad or skip it, or leave it out with `exclude`"
        )
    fits = [
        name
        for name, own in plan.patterns.items()
        if (name in whole or (remainder == "pad" and not by_input))
        and is_trainable(own, plan.shapes[name], by=trained)
    ]
    return plan if fits == open_ else build_pattern_plan(model, fits, pattern=pattern, pool=pool)


def _counts(plan: PatternPlan, row: LayerRow) -> list[int]:
    """Zeros of the choices of one pattern, ascending; never none, never all."""
    pattern, shape = plan.patterns[row.name], plan.shapes[row.name]
    fixed = counts_of(pattern, shape)
    if fixed is None and str(pattern).partition(":")[2]:  # N:M: every group, as fast kernels need
        fixed = (plan.most(row.name),)
    if fixed is None:
        asked = (row.weights - round(density * row.weights) for density in CHOICE_DENSITIES)
        fixed = tuple(pattern.feasible(shape, zeros) for zeros in asked)
    return sorted({count for count in fixed if 0 < count < row.weights})


def _nearest(
    zeros: Mapping[str, Sequence[int]], asked: int, *, within: int
) -> dict[str, Sequence[int]]:
    """The counts near one that is asked for; if there are none, the nearest."""
    off = [abs(count - asked) for own in zeros.values() for count in own]
    most = max(within, min(off, default=0))
    return {name: [c for c in own if abs(c - asked) <= most] for name, own in zeros.items()}


def _limited(
    counts: Sequence[int], plan: PatternPlan, row: LayerRow, limits: tuple[int, int] | None
) -> list[int]:
    """The counts within a layer's limits, and the limits where the pattern makes them."""
    if limits is None:
        return list(counts)
    (low, high), pattern, shape = limits, plan.patterns[row.name], plan.shapes[row.name]
    few = counts_of(pattern, shape) is not None or str(pattern).partition(":")[2]
    if low == high:
        nearest = min(counts, key=lambda count: abs(count - low), default=0)
        nearest = nearest if few else pattern.feasible(shape, low)
        return [nearest] if nearest else []
    ends = [] if few else [pattern.feasible(shape, low, side="up")]
    ends += [] if few else [pattern.feasible(shape, high, side="down")]
    return sorted({count for count in (*counts, *ends) if max(low, 1) <= count <= high})
