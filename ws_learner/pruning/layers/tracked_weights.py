"""Recognise weights among the operands of tensor operations, also as views and copies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Operand", "TrackedWeights"]


@dataclass(frozen=True, eq=False)
class _Source:
    """Memory that holds a weight, or values made of it.

    Attributes:
        name: Of the weight.
        start: Where it begins in the memory, in elements.
        length: How many elements it spans there.
        index: (length,) position in the weight of each element; None: the weight itself.
        changed: Whether the values are no longer the weight's.
        held: The tensor, so that its memory is not used again.
    """

    name: str
    start: int
    length: int
    index: Tensor | None
    changed: bool
    held: Tensor


@dataclass(frozen=True, eq=False)
class Operand:
    """A tensor that shows a weight, or a part of it.

    Attributes:
        name: Of the weight.
        tensor: The view or copy.
        changed: Whether its values are no longer the weight's.
    """

    name: str
    tensor: Tensor
    changed: bool
    _source: _Source

    def of(self, view: Tensor) -> Operand:
        """The same for a view of the tensor."""
        return Operand(self.name, view, self.changed, self._source)

    def at(self, *picks: Tensor) -> Tensor:
        """Flat position in the weight of the tensor's entries, along broadcast `picks`.

        Args:
            picks: An index tensor for each axis of the tensor.
        """
        place = torch.tensor(int(self.tensor.storage_offset()) - self._source.start)
        for pick, stride in zip(picks, self.tensor.stride(), strict=True):
            place = place + pick * stride
        return place if self._source.index is None else self._source.index[place]

    def every(self) -> Tensor:
        """Positions of all entries, of the tensor's shape."""
        axes = [torch.arange(size) for size in self.tensor.shape]
        return self.at(*torch.meshgrid(*axes, indexing="ij")) if axes else self.at()


class TrackedWeights:
    """The weights of a network and what is made of them during a forward pass."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights = {name: weight.detach() for name, weight in weights.items()}
        self._where: dict[int, list[_Source]] = {}
        self.clear()

    def clear(self) -> None:
        """Forget copies; the weights remain."""
        self._where = {}
        for name, weight in self._weights.items():
            start = int(weight.storage_offset())
            self._add(_Source(name, start, _span(weight), None, False, weight))

    def _add(self, source: _Source) -> None:
        if (key := _memory(source.held)) is not None:
            self._where.setdefault(key, []).append(source)

    def find(self, tensor: object) -> Operand | None:
        """The weight that a tensor shows, if any."""
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            return None
        key = _memory(tensor)
        for source in self._where.get(key, ()) if key is not None else ():
            if 0 <= tensor.storage_offset() - source.start < source.length:
                return Operand(source.name, tensor, source.changed, source)
        return None

    def copied(self, operand: Operand, result: Tensor, pick: Callable[[Tensor], Tensor]) -> None:
        """Track a result that holds entries of the operand; `pick` takes their positions."""
        index = torch.full((_span(result),), 0)
        index.as_strided(result.shape, result.stride()).copy_(pick(operand.every()))
        self._follow(operand, result, index, changed=operand.changed)

    def made(self, operand: Operand, result: Tensor) -> None:
        """Track a result of the operand's shape with other values."""
        index = torch.full((_span(result),), 0)
        index.as_strided(result.shape, result.stride()).copy_(operand.every())
        self._follow(operand, result, index, changed=True)

    def _follow(self, operand: Operand, result: Tensor, index: Tensor, *, changed: bool) -> None:
        start, length = int(result.storage_offset()), len(index)
        known = self.find(result)
        if known is None:  # else it was written in place, or is a view
            self._add(_Source(operand.name, start, length, index, changed, result))


def _memory(tensor: Tensor) -> int | None:
    try:
        return tensor.untyped_storage().data_ptr() or None
    except (RuntimeError, NotImplementedError):  # a tensor without memory of its own
        return None


def _span(tensor: Tensor) -> int:
    """Elements of memory from the first entry to the last."""
    if not tensor.numel():
        return 0
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    return 1 + sum((size - 1) * stride for size, stride in pairs)
