"""The header of a `.wsr` file, checked before anything is allocated for what it names."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any

from ws_learner.deploy.runtime.sparse_coding import BLOCKS, VALUE_BYTES

__all__ = ["check_entries", "check_head", "sides_of", "whole"]

_MOST_SIDES = 10
_ROOM, _TIMES = 64 << 20, 1000
"""Bytes that tensors may take in memory: so many, and so many times the file's size. A matrix of
which one weight in a thousand is left takes 700 times its part of the file."""

_CODED = ("int8", "float32", "float16", "bfloat16")
_ITEM = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4}
_ITEM |= {"int8": 1, "uint8": 1, "bool": 1}


def whole(value: Any, *, most: int = 1 << 62) -> int:
    """A whole number from 0 to `most`.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError("a number that must be whole, and not below 0, is not")
    return operator.index(value)


def sides_of(value: Any) -> tuple[int, ...]:
    """A shape.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(value, list | tuple) or len(value) > _MOST_SIDES:
        raise ValueError("a shape that is none")
    return tuple(whole(side) for side in value)


def check_entries(header: Any, *, room: int) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The tensors' entries and the metadata of a header.

    Args:
        header: What the file's JSON says.
        room: Bytes of the file that hold tensors.

    Raises:
        ValueError: It does not follow the format, or asks for more memory than such a file can
            need.
    """
    if not isinstance(header, dict):
        raise ValueError("the header is no object")
    entries, metadata = header.get("tensors"), header.get("metadata")
    if not isinstance(entries, dict) or not isinstance(metadata, dict):
        raise ValueError("the header has no tensors or no metadata")
    total = sum(_bytes_of(name, entry, room=room) for name, entry in entries.items())
    if total > _ROOM + _TIMES * room:
        raise ValueError(f"tensors of {total / 2**30:.1f} GiB in a file of {room >> 10} KiB")
    return entries, metadata


def _bytes_of(name: str, entry: Any, *, room: int) -> int:
    """Bytes that a tensor takes in memory, if its entry is sound."""
    if not name or not isinstance(entry, dict) or entry.get("dtype") not in _ITEM:
        raise ValueError("an entry that is none of a tensor")
    size, kind = whole(entry.get("size")), entry["dtype"]
    if whole(entry.get("at")) + size > room:
        raise ValueError("a tensor that lies beyond the file's end")
    count, coding = math.prod(sides_of(entry.get("shape"))), entry.get("coding")
    if not coding:
        if size != count * _ITEM[kind]:
            raise ValueError("a tensor of another size than its part of the file")
        return count * _ITEM[kind]
    check_head(coding, size=size, count=count)
    bytes_ = kind == "int8"
    if kind not in _CODED or (coding["values"] == "int8") != bytes_:
        raise ValueError("values that are not of the tensor's type")
    return count * (1 if bytes_ else 4)


def check_head(head: Any, *, size: int, count: int) -> None:
    """Check what `decode_sparse` is told of a matrix against its part of the file.

    Args:
        head: See `encode_sparse`.
        size: Bytes of the part.
        count: Values of the tensor.

    Raises:
        ValueError: They do not fit together.
    """
    if not isinstance(head, Mapping) or head.get("values") not in VALUE_BYTES:
        raise ValueError("a coding that is none")
    n, k = _two(head.get("shape"))
    if n * k != count:
        raise ValueError("a matrix of another size than its tensor")
    each = VALUE_BYTES[head["values"]]
    if head.get("block", 0) is None:
        if size < n * k * each:
            raise ValueError("values are missing")
        return
    block = head["block"]
    if not isinstance(block, list) or tuple(block) not in BLOCKS:
        raise ValueError("a block that is none")
    rows, inputs = block
    places = -(-n // rows) * -(-k // inputs)
    live, low = whole(head.get("live"), most=places), whole(head.get("low"), most=40)
    first, second = _two(head.get("parts"))
    bits = whole(head.get("bits"))
    if bits > 8 * first or live * low > 8 * second or live > bits:
        raise ValueError("gaps are missing")
    if first + second + live * rows * inputs * each > size:
        raise ValueError("values are missing")


def _two(value: Any) -> tuple[int, int]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("two numbers are needed")
    return whole(value[0]), whole(value[1])
