"""Values in messages: short, on one line, without control characters."""

from __future__ import annotations

import reprlib

__all__ = ["shown", "shown_repr"]

_MOST = 80
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = _MOST
_REPR.maxlevel = 3


def shown(value: object, *, most: int = _MOST) -> str:
    r"""`str(value)` as a message can hold it: at most `most` characters, the middle left out.

    Control characters, also those of terminals and of writing direction, are escaped.

    Example:
        >>> shown("a\nb"), shown("x" * 100, most=9)
        ('a\\nb', 'xxx...xxx')
    """
    if isinstance(value, str):
        text = value
    elif isinstance(value, int) and abs(value).bit_length() > 4 * most:
        return f"a number of {abs(value).bit_length()} bits"  # str refuses the largest
    else:
        text = str(value)
    if len(text) > most:
        half = (most - 3) // 2
        text = f"{text[:half]}...{text[-half:]}"
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def shown_repr(value: object, *, most: int = _MOST) -> str:
    """`repr(value)` as a message can hold it: long and nested values are cut.

    Example:
        >>> shown_repr(["a" * 100] * 9, most=20)
        "['aaaaaa...aaaa, ...]"
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return shown(value, most=most)
    if isinstance(value, str):
        return shown(repr(value[: 2 * most]), most=most)
    try:
        text = _REPR.repr(value)
    except ValueError:  # an integer of too many digits within
        text = type(value).__name__
    return shown(text, most=most)
