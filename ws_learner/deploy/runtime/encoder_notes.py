"""What the parts of a module were given and gave while it ran once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["Arguments", "Attention", "Notes", "Slot", "noted", "same"]

Slot = int | str
"""Place of an argument: its number, or its keyword."""

_NOTED = {"scaled_dot_product_attention", "layer_norm", "gelu"}
_LOOKS = {"__get__", "size", "dim", "is_floating_point", "is_contiguous", "stride", "numel"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Arguments:
    """What a module was called with."""

    places: tuple[Any, ...]
    words: Mapping[str, Any]

    def items(self) -> Iterator[tuple[Slot, Any]]:
        """By slot."""
        yield from enumerate(self.places)
        yield from self.words.items()

    def put(self, slot: Slot, value: Any) -> Arguments:
        """The same but for one."""
        if isinstance(slot, str):
            return replace(self, words={**self.words, slot: value})
        places = list(self.places)
        places[slot] = value
        return replace(self, places=tuple(places))


@dataclass(frozen=True, kw_only=True, eq=False)
class Attention:
    """The only scaled dot product attention of a module, over (B, heads, L, depth).

    Attributes:
        tensors: Queries, keys and values.
        mask: That was given, or None.
        scale: That was given, or None.
        result: What it gave.
    """

    tensors: tuple[Tensor, Tensor, Tensor]
    mask: Tensor | None
    scale: float | None
    result: Tensor


@dataclass(kw_only=True, eq=False)
class Notes:
    """Values met in one run.

    Attributes:
        linears: Input and output of each linear layer, by its name.
        calls: Name, arguments, keywords and result of functions.
        output: Of the module.
        used: Identities of all tensors that a function was given.
    """

    linears: dict[str, tuple[Tensor, Tensor]]
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any], Any]]
    output: Any = None
    used: set[int]

    def attention(self) -> Attention | None:
        """Of all tokens over all, without dropout; None if there is not exactly one."""
        found = [call for call in self.calls if call[0] == "scaled_dot_product_attention"]
        if len(found) != 1:
            return None
        _, args, words, result = found[0]
        names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
        options: dict[str, Any] = dict(zip(names, args, strict=False)) | words
        query, key, value = (options[name] for name in names[:3])
        if options.get("dropout_p") or options.get("is_causal") or options.get("enable_gqa"):
            return None
        if query.dim() != 4 or not query.shape == key.shape == value.shape:
            return None
        return Attention(
            tensors=(query, key, value),
            mask=options.get("attn_mask"),
            scale=options.get("scale"),
            result=result,
        )

    def source(self, values: Tensor) -> str | None:
        """The linear layer that gave these."""
        return next((name for name, (_, y) in self.linears.items() if same(y, values)), None)

    def reader(self, values: Tensor) -> str | None:
        """The linear layer that was given these, if it is the only one."""
        found = [name for name, (x, _) in self.linears.items() if same(x, values)]
        return found[0] if len(found) == 1 else None


class _Mode(TorchFunctionMode):
    def __init__(self, notes: Notes) -> None:
        super().__init__()
        self._notes = notes

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        words = dict(kwargs or {})
        result = func(*args, **words)
        name = getattr(func, "__name__", "")
        if name not in _LOOKS:
            given = (*args, *words.values())
            self._notes.used |= {id(value) for value in given if isinstance(value, Tensor)}
        if name in _NOTED:
            self._notes.calls.append((name, args, words, result))
        return result


def noted(module: nn.Module, names: Mapping[int, str], given: Arguments) -> Notes | None:
    """Run a module; None if it fails, or does not run each of its linear layers once.

    Args:
        module: Runs without gradients.
        names: Of its linear layers, by identity.
        given: What it is called with.
    """
    notes = Notes(linears={}, calls=[], used=set())
    unusual: list[str] = []

    def hook(name: str) -> Callable[..., None]:
        def note(_: nn.Module, places: tuple[Any, ...], output: Any) -> None:
            if name in notes.linears or len(places) != 1:
                unusual.append(name)
            else:
                notes.linears[name] = places[0], output

        return note

    with ExitStack() as hooks:
        for part in module.modules():
            if id(part) in names:
                held = part.register_forward_hook(hook(names[id(part)]))
                hooks.callback(held.remove)
        hooks.enter_context(_Mode(notes))
        try:
            notes.output = module(*given.places, **given.words)
        except Exception:  # a probe may be anything but what a forward takes
            return None
    return None if unusual else notes


def same(a: Any, b: Any) -> bool:
    """Whether tensors have the same type, shape and bits of value."""
    if a is b:
        return True
    alike = isinstance(a, Tensor) and isinstance(b, Tensor) and a.dtype == b.dtype
    return alike and a.shape == b.shape and torch.equal(a, b)
