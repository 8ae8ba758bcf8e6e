"""Hypothesis strategies of files that no save of ours makes: damaged bytes, forged values."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

__all__ = ["any_bytes", "any_json", "any_text", "damaged", "flat", "forged", "spliced"]

_MARKS = "\x00\x1b\u202e\ufeff\n\r\t'\"`|<>[]{}:,#&*!%@-=$\\/. 0123456789eE+abcé漢😀"
_NUMBERS = [0, -1, 1, True, 2**31, 2**63, 2**64, 10**30, -(10**30), 0.5, 1e308, -1e-9]
_WORDS = ["", "a", "../..", "nan", "1e999", "0x" + "f" * 60, "9" * 60, "re:(", "*", "\x1b[31m"]
_YAML = ["&x ", "*x", "<<: *x", "!!int ", "!!timestamp 2020-99-99", "? [a]", "- - - -", "{"]
_YAML += ["a: &a [1]\nb: *a\n", "1: 2\n", "~: 2\n", "%YAML 9", "---\n", "...\n", ": :", "\t"]
_YAML += ["|\n  x", "[" * 60]


def any_text(most: int = 200) -> st.SearchStrategy[str]:
    """Texts of marks that readers know, and of anything else."""
    marks = st.text(st.sampled_from(_MARKS), max_size=most)
    return st.one_of(marks, st.text(max_size=most), st.sampled_from(_WORDS))


def any_bytes() -> st.SearchStrategy[bytes]:
    """Bytes that may be no text."""
    return st.one_of(st.binary(max_size=200), any_text().map(lambda t: t.encode(errors="replace")))


def any_json() -> st.SearchStrategy[Any]:
    """Values that JSON can hold, among them numbers and depths beyond what is sensible."""
    leaves = st.one_of(
        st.none(),
        st.booleans(),
        st.sampled_from(_NUMBERS),
        st.integers(),
        st.floats(),
        any_text(20),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(any_text(10), inner, max_size=4)
        ),
        max_leaves=8,
    )


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """The bytes with a bit flipped, a part cut out, doubled or overwritten, or an end cut off."""
    size = len(whole)
    place = draw(st.integers(0, size - 1))
    length = draw(st.integers(1, 64))
    how = draw(st.sampled_from(["flip", "flip", "flip", "cut", "end", "double", "zero", "insert"]))
    if how == "flip":
        flipped = whole[place] ^ (1 << draw(st.integers(0, 7)))
        return whole[:place] + bytes([flipped]) + whole[place + 1 :]
    if how == "cut":
        return whole[:place] + whole[place + length :]
    if how == "end":
        return whole[:place]
    if how == "double":
        return whole[: place + length] + whole[place:]
    if how == "zero":
        return whole[:place] + bytes(min(length, size - place)) + whole[place + length :]
    return whole[:place] + draw(any_bytes()) + whole[place:]


@st.composite
def spliced(draw: st.DrawFn, text: str) -> str:
    """A text with marks put in, or a line of it changed."""
    lines = text.splitlines(keepends=True) or [""]
    place = draw(st.integers(0, len(lines) - 1))
    what = draw(st.one_of(st.sampled_from(_YAML), any_text(30)))
    how = draw(st.sampled_from(["line", "end", "value", "twice", "drop"]))
    if how == "line":
        lines.insert(place, what + "\n")
    elif how == "end":
        lines[place] = lines[place].rstrip("\n") + what + "\n"
    elif how == "value":
        lines[place] = lines[place].partition(":")[0] + ": " + what + "\n"
    elif how == "twice":
        lines.insert(place, lines[place])
    else:
        del lines[place]
    return "".join(lines)


@st.composite
def forged(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value of which one part is another, is missing, or is one too many."""
    value = copy.deepcopy(value)
    places = list(_places(value))
    holder, key = draw(st.sampled_from(places))
    how = draw(st.sampled_from(["set", "set", "set", "drop", "add"]))
    if how == "drop":
        del holder[key]
    elif how == "add" and isinstance(holder, dict):
        holder[draw(any_text(10))] = draw(any_json())
    elif how == "add":
        holder.insert(key, draw(any_json()))
    else:
        holder[key] = draw(any_json())
    return value


def _places(value: Any) -> Any:
    """Every (container, key) inside."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def flat(value: Any) -> Any:
    """What can be compared with `==`, also of tensors, arrays and NaN."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.detach().cpu().numpy().tobytes()
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, dict):
        return {str(key): flat(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [flat(one) for one in value]
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    if hasattr(value, "__dataclass_fields__"):
        return {name: flat(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, str | int | float | bool | None):
        return value
    return json.dumps(str(value))
