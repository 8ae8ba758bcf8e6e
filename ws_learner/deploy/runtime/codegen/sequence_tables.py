"""Numbers that the native code of encoder layers is called with."""

from __future__ import annotations

__all__ = [
    *("ATTENTION_SLOTS", "HEADER", "INPUT", "KEYS", "NORM_SLOTS", "OUTPUT", "QUERIES"),
    *("SEQUENCE_JOB", "SEQUENCE_STEP", "attention_scratch"),
]

SEQUENCE_JOB = (
    *("count", "length", "block", "steps", "x", "y", "row_bytes", "mask", "mask_bytes"),
    *("mask_row", "memory", "room", "number", "team", "ask_number", "ask_team"),
)
"""Sequences, their tokens, sequences of a block, kernels; addresses of input and output and bytes
of a token in both; mask as in `attention_kernel`; memory, and that of each thread; which thread
this is of how many, or the addresses of functions that know."""

SEQUENCE_STEP = ("function", "table", "whole", "x", "y", "z")
"""Addresses; whether it counts sequences (then it is given their length and number) or tokens;
input, output and third place: `INPUT`, `OUTPUT`, or bytes into the thread's memory."""

INPUT, OUTPUT = -1, -2

NORM_SLOTS = ("weight", "bias", "width", "epsilon")
"""Table of a norm: two addresses, floats of a row (a multiple of the lanes), and a float."""

ATTENTION_SLOTS = ("heads", "row_bytes", "key_bytes", "value_bytes", "width_bytes", "scale")
"""Table: heads; bytes of a row of the input, from its queries to its keys and values, and of a row
of the output; what scores are multiplied by, a float."""

HEADER = 64
"""Bytes at the beginning of the working memory: address of the mask, or 0, and its bytes from one
sequence to the next and from one query to the next. A mask is of floats, added to the scores."""

QUERIES, KEYS = 4, 2
"""Queries that are worked on together, and vectors of keys."""


def attention_scratch(length: int, depth: int, lanes: int) -> int:
    """Bytes of working memory for heads of `depth`."""
    return HEADER + _padded(length, lanes) * 4 * (depth + QUERIES)


def _padded(length: int, lanes: int) -> int:
    return -(-length // (KEYS * lanes)) * KEYS * lanes
