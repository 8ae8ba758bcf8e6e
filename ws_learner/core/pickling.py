"""Pickling for other processes: modules they cannot import are sent by value."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import cloudpickle
from torch import Tensor, nn

from ws_learner.core.errors import UserError

__all__ = ["importable", "refuse_unpicklable"]


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, data: Any) -> int:
        """Forget it."""
        return memoryview(data).nbytes


class _WithoutTensors(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles everything but tensors, which can always be sent."""

    def persistent_id(self, part: object) -> str | None:
        """A name in place of a tensor."""
        return "tensor" if isinstance(part, Tensor) else None


def refuse_unpicklable(parts: Mapping[str, object], *, remedy: str) -> None:
    """Refuse what cannot be sent to other processes, before any work.

    Args:
        parts: Networks and functions by the argument that gave them.
        remedy: What else to do, for the message.

    Raises:
        UserError: Pickling one of them fails; the message names it.
    """
    with importable(parts.values()):
        for name, part in parts.items():
            try:
                _WithoutTensors(_Nowhere()).dump(part)
            except Exception as error:  # any, raised by any object inside
                raise UserError(
                    f"`{name}`: cannot be sent to the processes that score rollouts, "
                    f"{type(error).__name__}: {' '.join(str(error).split())}; keep what cannot be "
                    f"pickled (a lock, an open file, a generator) out of it, {remedy}"
                ) from error


@contextmanager
def importable(parts: Iterable[object]) -> Iterator[None]:
    """Inside this context, cloudpickle pickles non-importable modules of `parts` by value.

    Such a module is an experiment file that was loaded from a path.

    Args:
        parts: Networks and functions, such as a network, its loss and its metric.
    """
    modules = [module for module in _modules(parts) if not _found_by_name(module)]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _modules(owns: Iterable[object]) -> list[ModuleType]:
    """Modules that define the parts of networks, losses and metrics."""
    parts = [part for own in owns for whole in _unwrapped(own) for part in (whole, type(whole))]
    parts += [type(part) for own in parts if isinstance(own, nn.Module) for part in own.modules()]
    names = {str(getattr(part, "__module__", "")) for part in parts} - {"__main__"}
    return [sys.modules[name] for name in sorted(names) if name in sys.modules]


def _unwrapped(part: object) -> Iterator[object]:
    """The part, and the functions that a `functools.partial` or a `MetricSpec` holds."""
    yield part
    for name in ("func", "function"):
        if callable(inner := getattr(part, name, None)) and not isinstance(part, nn.Module):
            yield from _unwrapped(inner)


def _found_by_name(module: ModuleType) -> bool:
    """Whether a new interpreter would find the same file by the module's name."""
    if "__sent_by_value__" in vars(module):  # an experiment file, which may change in between
        return False
    path: Sequence[str] | None = None
    spec: ModuleSpec | None = None
    parts = module.__name__.split(".")
    for depth in range(1, len(parts) + 1):
        spec = _find(".".join(parts[:depth]), path)
        if spec is None:
            return False
        path = spec.submodule_search_locations
    file = getattr(module, "__file__", None)
    return file is None or (spec is not None and spec.origin == file)


def _find(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    specs = (finder.find_spec(name, path) for finder in sys.meta_path)
    return next((spec for spec in specs if spec is not None), None)
