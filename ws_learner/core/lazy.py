"""Lazy public names of a package: a module is imported when one of its names is first used."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(
    package: str,
    modules: Mapping[str, Sequence[str]],
    *,
    moved: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Build a package's `__getattr__` and `__dir__` (PEP 562).

    `import package` then loads none of its modules, so that `-h` needs no torch.

    Args:
        package: The package's `__name__`.
        modules: Module, relative to the package or absolute -> names that it defines, or names of
            modules inside it.
        moved: Former name -> its current place; still available, with a `FutureWarning`.

    Returns:
        `__getattr__` and `__dir__` of the package.
    """
    homes = {name: module for module, names in modules.items() for name in names}

    def getattr_(name: str) -> Any:
        if name in moved:
            return _moved(f"{package}.{name}", moved[name])
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = _absolute(package, homes[name])
        module = importlib.import_module(home)
        if hasattr(module, name):
            value = getattr(module, name)
        else:
            value = importlib.import_module(f"{home}.{name}")
        setattr(sys.modules[package], name, value)
        return value

    def dir_() -> list[str]:
        return sorted(homes)

    return getattr_, dir_


def _moved(former: str, today: str) -> Any:
    warnings.warn(
        f"{former} is now {today}; the old name will be removed in version 1.0",
        FutureWarning,
        stacklevel=3,
    )
    module, _, name = today.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _absolute(package: str, module: str) -> str:
    return module if module.startswith("ws_learner.") else f"{package}.{module}"
