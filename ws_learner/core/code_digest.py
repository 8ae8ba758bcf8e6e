"""What counts of functions and classes in a digest, see `ValueDigest`. Free of torch."""

from __future__ import annotations

import functools
import types
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from ws_learner.core.code_origin import Origin, origin_of

__all__ = ["CodeParts", "full_name"]

_BY_NAME = (
    *(types.BuiltinFunctionType, types.ModuleType, types.MemberDescriptorType),
    *(types.GetSetDescriptorType, types.WrapperDescriptorType, types.MethodWrapperType),
    *(types.MethodDescriptorType, types.ClassMethodDescriptorType),
)
_CODE = (types.FunctionType, staticmethod, classmethod, property)
_IGNORED = ("__init__", "__repr__", "extra_repr", "__annotate__", "__annotate_func__", "_abc_impl")
"""Of a class, what does not say how its objects behave; what `__init__` did, they hold."""


class CodeParts(ABC):
    """Takes functions and classes apart; `of` digests the parts."""

    @abstractmethod
    def of(self, value: Any) -> str:
        """Hex digest of any value."""

    def code_parts(self, value: Any) -> Iterator[str] | None:
        """The parts of a function, a class or their like; None for anything else."""
        if isinstance(value, types.CodeType):
            return self._bytecode(value)
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.MethodType):
            return iter(("method", self.of(value.__func__), self.of(value.__self__)))
        if isinstance(value, staticmethod | classmethod):
            return iter((type(value).__name__, self.of(value.__func__)))
        if isinstance(value, property | functools.cached_property):
            names = ("fget", "fset", "fdel", "func")
            return iter([self.of(getattr(value, name, None)) for name in names])
        if isinstance(value, functools.partial):
            return map(self.of, ("partial", value.func, value.args, value.keywords))
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, _BY_NAME):
            owner = getattr(value, "__self__", None)  # of a bound one such as [].append
            bound = None if isinstance(owner, types.ModuleType) else owner
            return iter((full_name(value), self.of(bound)))
        if callable(value) and hasattr(value, "__wrapped__"):  # such as functools.cache
            return iter((full_name(type(value)), self.of(value.__wrapped__)))
        return None

    def _function(self, value: types.FunctionType) -> Iterator[str]:
        origin = origin_of(value)
        yield "function"
        if origin is Origin.TRUSTED:
            yield full_name(value)
        else:
            yield from self._bytecode(value.__code__, doc=value.__doc__)
            yield from map(self.of, (value.__defaults__, value.__kwdefaults__))
            yield self.of({k: v for k, v in vars(value).items() if k != "__wrapped__"})
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            yield from (name, self._cell(cell))
        if origin is Origin.OWN:
            yield from self._globals(value)

    def _cell(self, cell: types.CellType) -> str:
        try:
            return self.of(cell.cell_contents)
        except ValueError:
            return "empty"

    def _globals(self, function: types.FunctionType) -> Iterator[str]:
        """The global values that a function reads; of the user's modules, those it names."""
        names, held = sorted(_names(function.__code__)), function.__globals__
        for name in names:
            if name not in held:
                continue
            yield from (name, self.of(held[name]))
            if isinstance(held[name], types.ModuleType) and origin_of(held[name]) is Origin.OWN:
                for inner in names:
                    if inner in vars(held[name]):
                        yield from (inner, self.of(vars(held[name])[inner]))

    def _bytecode(self, code: types.CodeType, *, doc: str | None = None) -> Iterator[str]:
        consts = code.co_consts
        if doc is not None and consts and consts[0] == doc:
            consts = (None, *consts[1:])
        yield f"code {code.co_argcount} {code.co_kwonlyargcount}"
        yield from (code.co_code.hex(), code.co_exceptiontable.hex())
        yield " ".join((*code.co_names, "|", *code.co_freevars, "|", *code.co_cellvars))
        yield from map(self.of, consts)

    def _class(self, value: type) -> Iterator[str]:
        yield "class" if origin_of(value) is Origin.OWN else f"class {full_name(value)}"
        for base in value.__mro__:
            origin = origin_of(base)
            if origin is Origin.TRUSTED:
                yield full_name(base)
                continue
            for name, item in sorted(vars(base).items()):
                code = isinstance(item, _CODE)
                setting = origin is Origin.OWN and not name.startswith("__")
                if name not in _IGNORED and (code or setting):
                    yield from (name, self.of(item))


def full_name(value: Any) -> str:
    """Module and qualified name of a function, class or module."""
    module = getattr(value, "__module__", None) or ""
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    return f"{module}.{name or type(value).__qualname__}"


def _names(code: types.CodeType) -> set[str]:
    inner = (const for const in code.co_consts if isinstance(const, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))
