"""Memory that was freed goes back to the system."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

__all__ = ["return_freed_memory"]


def return_freed_memory() -> None:
    """Return freed memory to the system, where the C library keeps it.

    glibc keeps freed arrays of up to 32 MB for later. The matrices of a block are of that size, and
    the next ones are seldom of the same. Other C libraries are left alone.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
