"""Calling a network as people do: one tensor, several, or keywords, and the tensor it gives.

Inputs of a batch are one tensor, given as `model(inputs)`; a tuple or list, given as
`model(*inputs)`; or a mapping such as Hugging Face's `BatchEncoding`, given as `model(**inputs)`.
Tensors may lie deeper in lists, tuples and mappings.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.core.errors import UserError

__all__ = [
    "Inputs",
    "call_model",
    "count_of",
    "describe_output",
    "device_of",
    "main_output",
    "map_tensors",
    "rows_of",
    "run_model",
    "tensors_of",
    "weight_type",
]

Inputs = Tensor | Sequence[Any] | Mapping[str, Any]
"""Inputs of a batch: a tensor, several in a sequence, or keyword arguments."""

_MAIN = ("logits", "out")  # of Hugging Face, and of torchvision's segmentation networks


def tensors_of(value: Any) -> Iterator[Tensor]:
    """All tensors of a structure, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from tensors_of(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors_of(part)


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same structure of changed tensors; mappings become dicts, what is no tensor stays."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: map_tensors(part, change) for name, part in value.items()}
    if isinstance(value, list | tuple):
        parts = [map_tensors(part, change) for part in value]
        if hasattr(value, "_fields"):  # a named tuple
            return type(value)(*parts)
        return parts if isinstance(value, list) else tuple(parts)
    return value


def count_of(inputs: Inputs) -> int:
    """Number of examples: the length of the first tensor that has one.

    Raises:
        UserError: There is none.
    """
    for tensor in tensors_of(inputs):
        if tensor.dim():
            return len(tensor)
    raise UserError(f"a batch holds no tensor with a row for each example: {_kind_of(inputs)}")


def rows_of(inputs: Any, rows: slice | Tensor) -> Any:
    """Some examples of a batch; tensors of another length belong to all of it and stay whole."""
    if isinstance(inputs, Tensor):
        return inputs[rows]
    count = count_of(inputs)
    return map_tensors(inputs, lambda x: x[rows] if x.dim() and len(x) == count else x)


def device_of(inputs: Inputs) -> torch.device:
    """Device of the first tensor."""
    return next((tensor.device for tensor in tensors_of(inputs)), torch.device("cpu"))


def weight_type(model: nn.Module) -> torch.dtype | None:
    """Type of the first floating parameter; None if there is none."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), None)


def call_model(model: nn.Module, inputs: Inputs) -> Tensor:
    """Run the network; return the tensor that loss and metric see, see `main_output`.

    Raises:
        UserError: As `run_model` and `main_output` do.
    """
    return main_output(run_model(model, inputs), inputs)


def run_model(model: nn.Module, inputs: Inputs) -> Any:
    """Run the network and return what it returns; floating inputs get the weights' type.

    A sequence or mapping that `forward` does not take in parts is given as it is. A mapping of
    one tensor is given as this tensor if `forward` does not know its name.

    Raises:
        UserError: `forward` does not take such inputs.
    """
    inputs = _as_weights(model, inputs)
    if not isinstance(inputs, Tensor):
        places, words = _arguments(model, inputs)
        return model(*places, **words)
    try:
        return model(inputs)
    except TypeError as error:
        signature = _signature(model)
        if signature is None or _binds(signature, (inputs,), {}):
            raise
        raise _unfit(model, inputs, signature) from error


def main_output(answer: Any, inputs: Inputs) -> Tensor:
    """The tensor that loss and metric see.

    It is the output itself; its `logits` or `out`; the first of a tuple; or the only floating
    tensor with a row for each example.

    Args:
        answer: What the network returned.
        inputs: Its inputs.

    Raises:
        UserError: The tensor cannot be told.
    """
    if isinstance(answer, Tensor):
        return answer
    found: Tensor = _parts_of(answer)[_main_name(answer, inputs)]
    return found


def describe_output(answer: Any, inputs: Inputs) -> str:
    """Where loss and metric find their tensor, such as `logits of ModelOutput`; empty if plain.

    Raises:
        UserError: The tensor cannot be told.
    """
    if isinstance(answer, Tensor):
        return ""
    name = _main_name(answer, inputs)
    return f"{name} of {type(answer).__name__}"


def _main_name(answer: Any, inputs: Inputs) -> str:
    parts = _parts_of(answer)
    for name in _MAIN:
        if isinstance(parts.get(name), Tensor):
            return name
    count = count_of(inputs)
    whole = [
        name
        for name, part in parts.items()
        if isinstance(part, Tensor)
        and part.is_floating_point()
        and part.dim()
        and len(part) == count
    ]
    first = next(iter(parts), "")
    if isinstance(answer, list | tuple) and first in whole:
        return first
    if len(whole) == 1:
        return whole[0]
    held = ", ".join(f"{name} {_kind_of(part)}" for name, part in parts.items()) or "no tensor"
    raise UserError(
        f"the network returns {type(answer).__name__} ({held}) for {count} examples, which does "
        "not say what loss and metric see: a tensor with a row for each example, `logits`, `out`, "
        "or the first of a tuple; choose it by a hook that leaves class and weights as they are: "
        "model.register_forward_hook(lambda model, inputs, output: ...)"
    )


def _parts_of(answer: Any) -> dict[str, Any]:
    """The named parts of an output; those of a tuple have numbers."""
    if isinstance(answer, Mapping):
        return {str(name): part for name, part in answer.items()}
    if isinstance(answer, list | tuple):
        names = getattr(answer, "_fields", None) or map(str, range(len(answer)))
        return dict(zip(names, answer, strict=True))
    if dataclasses.is_dataclass(answer) and not isinstance(answer, type):
        return {part.name: getattr(answer, part.name) for part in dataclasses.fields(answer)}
    return {name: getattr(answer, name) for name in _MAIN if hasattr(answer, name)}


def _as_weights(model: nn.Module, inputs: Inputs) -> Inputs:
    """Inputs whose floating tensors have the type of the network's first floating parameter."""
    kind = weight_type(model)
    if kind is None:
        return inputs
    found: Inputs = map_tensors(inputs, lambda x: x.to(kind) if x.is_floating_point() else x)
    return found


def _arguments(model: nn.Module, inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    named = isinstance(inputs, Mapping)
    parts: tuple[tuple[Any, ...], dict[str, Any]]
    parts = ((), dict(inputs)) if named else (tuple(inputs), {})
    signature = _signature(model)
    if signature is None or _binds(signature, *parts):
        return parts
    whole = tuple(inputs.values()) if named and len(inputs) == 1 else (inputs,)
    if _binds(signature, whole, {}):
        return whole, {}
    raise _unfit(model, inputs, signature)


def _signature(model: nn.Module) -> inspect.Signature | None:
    """What the network's own `forward` takes; None if it does not say."""
    for name in ("_orig_mod", "module"):  # of torch.compile, and of copies for several devices
        wrapped = getattr(model, name, None)
        if isinstance(wrapped, nn.Module) and type(model).__module__.startswith("torch."):
            return _signature(wrapped)
    try:
        return inspect.signature(model.forward)
    except (TypeError, ValueError):
        return None


def _binds(signature: inspect.Signature, places: tuple[Any, ...], words: dict[str, Any]) -> bool:
    try:
        signature.bind(*places, **words)
    except TypeError:
        return False
    return True


def _unfit(model: nn.Module, inputs: Any, signature: inspect.Signature) -> UserError:
    taken = ", ".join(signature.parameters) or "nothing"
    given = ", ".join(map(str, inputs)) if isinstance(inputs, Mapping) else _kind_of(inputs)
    return UserError(
        f"the network does not take the inputs of a batch: `forward` of {type(model).__name__} "
        f"takes {taken}, and the batch holds {given}; give a dict of its arguments, and leave out "
        "what it does not take"
    )


def _kind_of(value: Any) -> str:
    if isinstance(value, Tensor):
        return str(tuple(value.shape))
    if isinstance(value, list | tuple):
        return f"{len(value)} in a {type(value).__name__}"
    return type(value).__name__
