"""A second look: a rewritten network against the original, on inputs that it was not made from.

What is traced or measured on one example follows that example's path through a forward pass that
branches on values or on the number of examples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.deploy.runtime.output_comparison import differences

__all__ = [
    *("MOST_DIFFERENCE", "copied_inputs", "first_difference", "first_examples", "longer_inputs"),
    *("most_difference", "noisy_inputs", "other_inputs", "tensors_in"),
]

MOST_DIFFERENCE = 1e-3
"""Relative difference of outputs beyond which they are not the same; sums in another order are
nearer to 1e-6."""
_OF_TYPE = {torch.float64: 1e-9, torch.complex128: 1e-9, torch.float16: 1e-2, torch.bfloat16: 5e-2}


def other_inputs(example: Any) -> Iterator[tuple[str, Any]]:
    """Inputs of the example's shape and type with other values, and some with another batch size.

    Floats change sign and size. Rows of whole numbers, which may be indices, change their order.

    Args:
        example: Tensors, in lists, tuples or mappings.

    Yields:
        What is different about them, and the inputs.
    """
    yield "like the example", example
    for factor, words in (
        (-1.0, "of the opposite sign"),
        (10.0, "ten times as large"),
        (-0.1, "of the opposite sign and a tenth of the size"),
    ):
        yield words, _mapped(example, partial(_changed, factor=factor))
    sizes = {x.shape[0] for x in tensors_in(example) if x.dim()}
    if len(sizes) == 1:
        (size,) = sizes
        if size == 1:
            yield "of two examples", _mapped(example, lambda x: torch.cat([x, x]) if x.dim() else x)
        elif size > 1:
            yield f"of {size - 1} examples", _mapped(example, lambda x: x[:-1] if x.dim() else x)


def noisy_inputs(example: Any) -> Iterator[tuple[str, Any]]:
    """Inputs with noise; an example of zeros or ones by itself tells little."""
    draw = torch.Generator().manual_seed(0)

    def shaken(x: Tensor) -> Tensor:
        if not x.is_floating_point() or not x.numel():
            return x
        noise = torch.randn(x.shape, generator=draw).to(x)
        spread = x.max() - x.min()
        return x + noise * (spread / 4 if spread > 0 else torch.ones_like(spread))

    yield "with noise", _mapped(example, shaken)


def longer_inputs(example: Any) -> Iterator[tuple[str, Any]]:
    """Inputs that are twice as long along one dimension, images that are twice as wide say.

    Many networks cannot take them; what is measured along such a dimension depends on its size.
    """
    most = max((x.dim() for x in tensors_in(example)), default=0)
    for dim in range(1, most):
        words = f"twice as long along dimension {dim}"
        yield words, _mapped(example, partial(_doubled, dim=dim))


def first_examples(example: Any, count: int) -> Any:
    """At most `count` examples, where all tensors have the same first dimension."""
    sizes = {x.shape[0] for x in tensors_in(example) if x.dim()}
    if len(sizes) != 1:
        return example
    return _mapped(example, lambda x: x[:count] if x.dim() else x)


def most_difference(model: nn.Module) -> float:
    """Relative difference of outputs that sums in another order may make in a network's type."""
    kinds = {p.dtype for p in model.parameters() if p.is_floating_point() or p.is_complex()}
    return max((_OF_TYPE.get(kind, MOST_DIFFERENCE) for kind in kinds), default=MOST_DIFFERENCE)


def copied_inputs(inputs: Any) -> Any:
    """The same with tensors of its own, for a forward pass that may change them."""
    return _mapped(inputs, Tensor.clone)


def first_difference(
    original: Callable[[Any], Any],
    other: Callable[[Any], Any],
    example: Any,
    *,
    most: float = MOST_DIFFERENCE,
    inputs_of: Callable[[Any], Iterable[tuple[str, Any]]] = other_inputs,
) -> str | None:
    """Compare two networks on the example and on `other_inputs`.

    Inputs that the original itself cannot take are left out.

    Args:
        original: Runs the network on inputs, which are copies.
        other: Runs the rewritten one.
        example: Inputs.
        most: Relative difference of outputs that is allowed.
        inputs_of: Gives the inputs, and what is different about them.

    Returns:
        None if they are alike; else by how much they differ, and on what.
    """
    with torch.no_grad(), _highest_precision():
        for words, inputs in inputs_of(example):
            try:
                wanted = original(_mapped(inputs, Tensor.clone))  # it may change them
            except Exception:  # whatever a forward pass raises
                continue
            try:
                got = other(_mapped(inputs, Tensor.clone))
            except Exception as error:  # the same
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                return f"it does not run on inputs {words} ({reason})"
            moved = differences([(got, wanted)])["relative_error"]
            if not moved <= most:
                return f"outputs differ by {moved:.2g} of their size on inputs {words}"
    return None


class _highest_precision:  # noqa: N801  (a context)
    """Full float32 products; a caller may have allowed TF32."""

    def __enter__(self) -> None:
        self._before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")

    def __exit__(self, *error: object) -> None:
        torch.set_float32_matmul_precision(self._before)


def _doubled(x: Tensor, dim: int) -> Tensor:
    return torch.cat([x, x], dim) if x.dim() > dim else x


def _changed(x: Tensor, factor: float) -> Tensor:
    if x.is_floating_point() or x.is_complex():
        return x * factor
    return x.flip(0) if x.dim() else x


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _mapped(part, change) for name, part in value.items()}
    if isinstance(value, list | tuple):
        parts = [_mapped(part, change) for part in value]
        return tuple(parts) if type(value) is tuple else parts
    return value


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and mappings, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from tensors_in(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors_in(part)
