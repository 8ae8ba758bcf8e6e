"""Where code comes from: the user, an installed package, or a library that counts by name."""

from __future__ import annotations

import enum
import functools
import sys
import sysconfig
import types
from pathlib import Path
from typing import Any

__all__ = ["Origin", "origin_of"]

_BY_NAME = ("torch", "torchvision", "numpy", "scipy", "ws_learner", "agents", "envs")


class Origin(enum.Enum):
    """How far a digest looks into code."""

    OWN = "own"
    """The user's: code, and the global values it reads."""
    INSTALLED = "installed"
    """Of an installed package: its code only."""
    TRUSTED = "trusted"
    """Of the standard library, PyTorch, NumPy, SciPy or this library: its name only."""


def origin_of(value: Any) -> Origin:
    """Origin of a function, class or module."""
    module = value.__name__ if isinstance(value, types.ModuleType) else value.__module__
    return _origin(module or "")


@functools.cache
def _origin(name: str) -> Origin:
    top = name.partition(".")[0]
    if top == "__main__":
        return Origin.OWN
    if top in _BY_NAME or top in sys.stdlib_module_names or top in sys.builtin_module_names:
        return Origin.TRUSTED
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None:
        return Origin.OWN
    places = (sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    inside = any(Path(file).resolve().is_relative_to(Path(p).resolve()) for p in places if p)
    return Origin.INSTALLED if inside else Origin.OWN
