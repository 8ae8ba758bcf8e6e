"""Digests of functions, networks and settings: equal in every process, other if one changes."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ws_learner.core.code_digest import CodeParts, full_name

__all__ = ["ValueDigest", "forward_digest", "state_digest", "tensor_bytes", "value_digest"]

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis))
_AS_TEXT = (torch.dtype, torch.device, torch.layout, np.dtype, range, slice, PurePath, np.ufunc)
_TYPE_ONLY = (logging.Logger, RemovableHandle, weakref.ref, contextlib._GeneratorContextManager)
"""Change nothing; what they hold differs from process to process."""
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_OF_EVERY_MODULE = set(vars(nn.Module()))


def value_digest(value: Any) -> str:
    """SHA-256 of a value, 16 hex digits; see `ValueDigest`.

    Example:
        >>> value_digest(lambda x: x + 1) == value_digest(lambda x: x + 2)
        False
    """
    return ValueDigest().of(value)[:16]


def state_digest(model: nn.Module) -> str:
    """SHA-256 of names, types and values of all parameters and buffers, as hex."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, Tensor):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
            digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def forward_digest(model: nn.Module) -> str:
    """Digest of what a network computes apart from its weights, 16 hex digits.

    It covers the parts in their order, their classes and settings, the code of classes and hooks,
    the buffers that a state_dict leaves out, and which parameters are trained.
    """
    return ValueDigest(weights=False).of(model)[:16]


class ValueDigest(CodeParts):
    """Digests values by content.

    A function counts by its bytecode, constants, defaults, captured values and, if it is the
    user's, the global values it reads. An object counts by its class and attributes. Line numbers
    and comments do not count. PyTorch, NumPy, SciPy, this library and the standard library count
    by name.

    Attributes:
        opaque: Names of the types whose objects counted by their type alone.
    """

    def __init__(self, *, weights: bool = True) -> None:
        """Start; without `weights` networks count without what their state_dict holds."""
        self.opaque: set[str] = set()
        self._weights = weights
        self._known: dict[int, tuple[Any, str]] = {}  # keeps the objects, so that ids stay taken
        self._open: set[int] = set()

    def of(self, value: Any) -> str:
        """Hex SHA-256 of `value`."""
        if isinstance(value, _PLAIN):
            return _hash((type(value).__name__, repr(value)))
        if type(value).__name__ == "OptimizedModule":  # torch.compile computes the same
            return self.of(value._orig_mod)
        if id(value) in self._known:
            return self._known[id(value)][1]
        if id(value) in self._open:
            return _hash(("cycle", full_name(type(value))))
        self._open.add(id(value))
        try:
            found = _hash(self._parts(value))
        finally:
            self._open.discard(id(value))
        self._known[id(value)] = (value, found)
        return found

    def _parts(self, value: Any) -> Iterator[str | bytes | memoryview]:
        kind = full_name(type(value))
        if isinstance(value, nn.Module):
            yield from self._network(value)
        elif isinstance(value, Tensor):
            yield f"tensor {value.dtype} {tuple(value.shape)}"
            yield tensor_bytes(value)
        elif isinstance(value, np.ndarray | np.generic) and value.dtype != object:
            yield from (f"array {value.dtype} {value.shape}", value.tobytes())
        elif isinstance(value, Mapping):
            pairs = sorted(self.of(key) + self.of(item) for key, item in value.items())
            yield from (kind, *pairs)
        elif isinstance(value, set | frozenset):
            yield from (kind, *sorted(map(self.of, value)))
        elif isinstance(value, list | tuple):
            yield from (kind, *map(self.of, value))
        elif isinstance(value, _AS_TEXT):
            yield from (kind, str(value))
        elif (code := self.code_parts(value)) is not None:
            yield from code
        else:
            yield from self._object(value)

    def _network(self, network: nn.Module) -> Iterator[str]:
        if isinstance(network, torch.jit.ScriptModule):
            yield from (str(getattr(network, "code", "")), *map(self.of, network.children()))
            yield self.of(dict(network.state_dict()) if self._weights else None)
            return
        yield from ("network", self.of(type(network)))
        held = vars(network)
        yield self.of({name: held[name] for name in held.keys() - _OF_EVERY_MODULE})
        for name in _HOOKS:
            yield self.of(list(held.get(name, {}).values()))
        for name, parameter in network._parameters.items():
            trained = parameter is not None and parameter.requires_grad
            shape = None if parameter is None else tuple(parameter.shape)
            yield f"parameter {name} {shape} {trained}"
            yield self.of(parameter) if self._weights else ""
        for name, buffer in network._buffers.items():
            kept = self._weights or name in network._non_persistent_buffers_set
            yield from (f"buffer {name}", self.of(buffer) if kept else "")
        for name, part in network._modules.items():
            yield from (f"part {name}", self.of(part))

    def _object(self, value: Any) -> Iterator[str]:
        yield from ("object", self.of(type(value)))
        if isinstance(value, _TYPE_ONLY):
            return
        if dataclasses.is_dataclass(value):
            names = [field.name for field in dataclasses.fields(value)]
            yield self.of({name: getattr(value, name, None) for name in names})
        elif hasattr(value, "__dict__"):
            yield self.of(
                vars(value) | {name: getattr(value, name, None) for name in _slots(value)}
            )
        else:
            yield self._pickled(value)

    def _pickled(self, value: Any) -> str:
        """What pickle would store, of objects whose attributes cannot be listed."""
        try:
            stored = value.__reduce_ex__(2)
        except Exception:  # each library raises its own
            self.opaque.add(full_name(type(value)))
            return ""
        if isinstance(stored, str):
            return stored
        items = [list(part) for part in stored[3:5] if part is not None]
        return self.of([*stored[:3], *items])


def _hash(parts: Iterable[str | bytes | memoryview]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(f"{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The bytes of the values of a tensor of any type and layout."""
    if tensor.is_meta:
        return memoryview(b"")
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy().data)


def _slots(value: Any) -> Iterator[str]:
    for base in type(value).__mro__:
        slots = vars(base).get("__slots__", ())
        yield from (slots,) if isinstance(slots, str) else slots
