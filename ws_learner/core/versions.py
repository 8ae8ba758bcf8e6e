"""Versions of the libraries that affect a result."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

__all__ = ["library_versions"]

_LIBRARIES = ("torch", "numpy", "gymnasium", "stable-baselines3", "pandas")


def library_versions() -> dict[str, str]:
    """Versions by library, and Python's."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
