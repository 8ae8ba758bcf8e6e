"""Patterns by another road: units as lists of index tuples, made with plain loops."""

from __future__ import annotations

from itertools import product

import numpy as np

from ws_learner.pruning.patterns.pattern import (
    NM,
    BlockPattern,
    ChannelPattern,
    HeadPattern,
    Pattern,
    Unstructured,
)

Unit = list[tuple[int, ...]]

PATTERNS: dict[str, Pattern] = {
    "unstructured": Unstructured(),
    "4x1": BlockPattern(4, 1),
    "1x4": BlockPattern(1, 4),
    "2x3": BlockPattern(2, 3),
    "16x4": BlockPattern(16, 4),
    "2:4": NM(2, 4),
    "1:3": NM(1, 3),
    "5:9": NM(5, 9),
    "channelx1": ChannelPattern("inputs"),
    "1xchannel": ChannelPattern("outputs"),
}
HEADS: dict[str, Pattern] = {
    "rows": HeadPattern(2, "outputs"),
    "columns": HeadPattern(2, "inputs"),
    "fused": HeadPattern(2, "outputs", parts=3),
}
SHAPES = [
    (7, 10),  # ragged for nearly all
    (8, 12),
    (1, 1),
    (6, 5, 3),
    (8, 4, 3, 3),
    (9, 8, 1, 1),
    (8, 1, 3, 3),  # depthwise: one input per group
    (12, 3, 2, 2),  # grouped
    (5,),
    (3, 4, 2, 1, 2),
]


def places(shape: tuple[int, ...]) -> list[Unit]:
    """The matrix as a list of rows of index tuples: taps outside, inputs inside."""
    kernel = list(product(*map(range, shape[2:])))
    inputs = range(shape[1]) if len(shape) > 1 else None
    if inputs is None:
        return [[(o,)] for o in range(shape[0])]
    return [[(o, i, *tap) for tap in kernel for i in inputs] for o in range(shape[0])]


def units(pattern: Pattern, shape: tuple[int, ...]) -> list[Unit]:
    """All places of every unit, in the order of the matrix."""
    if isinstance(pattern, Unstructured):
        return [[place] for place in np.ndindex(shape)]
    rows = places(shape)
    if isinstance(pattern, NM):
        inputs = shape[1] if len(shape) > 1 else 1
        return [
            row[start : start + inputs][group : group + pattern.m]
            for row in rows
            for start in range(0, len(row), inputs)
            for group in range(0, inputs, pattern.m)
        ]
    if isinstance(pattern, ChannelPattern) and pattern.axis == "inputs":
        inputs = shape[1] if len(shape) > 1 else 1
        every = [place for row in rows for place in row]
        return [[p for p in every if len(p) == 1 or p[1] == i] for i in range(inputs)]
    if isinstance(pattern, HeadPattern):
        return heads(pattern, shape)
    if isinstance(pattern, BlockPattern):
        high, wide = pattern.outputs, pattern.inputs
    else:
        high, wide = 1, len(rows[0])
    return [
        [p for row in rows[top : top + high] for p in row[left : left + wide]]
        for top in range(0, len(rows), high)
        for left in range(0, len(rows[0]), wide)
    ]


def heads(pattern: HeadPattern, shape: tuple[int, ...]) -> list[Unit]:
    every = [place for row in places(shape) for place in row]
    if pattern.axis == "inputs":
        size = shape[1] // pattern.heads
        return [[p for p in every if p[1] // size == h] for h in range(pattern.heads)]
    per_part = shape[0] // pattern.parts
    size = per_part // pattern.heads
    return [[p for p in every if p[0] % per_part // size == h] for h in range(pattern.heads)]


def prunable(pattern: Pattern, unit: Unit, score: np.ndarray) -> Unit:
    """The places that go when the unit goes."""
    if not isinstance(pattern, NM):
        return unit
    gone = max(len(unit) - pattern.n, 0)
    return sorted(unit, key=lambda place: score[place])[:gone]  # stable
