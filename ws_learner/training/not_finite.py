"""Where NaN and infinity come from: the example, the weight, or the first layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.core import UserError, run_model, tensors_of
from ws_learner.data import Split

__all__ = ["broken_example", "broken_weight", "explained", "refuse_broken_inputs"]

_BATCH = 64


def is_finite(value: Any) -> bool:
    """Whether a tensor, or all in a dictionary, tuple or list, has neither NaN nor infinity."""
    return all(bool(part.isfinite().all()) for part in _floats(value))


def broken_weight(model: nn.Module) -> str:
    """Name of the first parameter or buffer that holds NaN, or an empty text.

    Infinity counts in weights of two axes and more: elsewhere it may be a mask of an attention.
    """
    for name, value in model.named_parameters():
        if not bool((value.isfinite() if value.dim() > 1 else ~value.isnan()).all()):
            return name
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point() and bool(buffer.isnan().any()):
            return name
    return ""


def broken_example(inputs: Any) -> int | None:
    """Position in the batch of the first example that holds NaN or infinity, if any."""
    found = [
        int((~part.reshape(len(part), -1).isfinite().all(1)).nonzero()[0])
        for part in _floats(inputs)
        if part.dim() and not bool(part.isfinite().all())
    ]
    return min(found, default=None)


@torch.no_grad()
def first_broken_layer(model: nn.Module, inputs: Any) -> str:
    """Name of the first module whose outputs are not finite though its inputs are, or nothing.

    Args:
        model: The network, in the mode in which its outputs are not finite.
        inputs: A batch, as the network takes it.
    """
    broken: list[str] = []

    def watch(name: str, module: nn.Module) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], outputs: Any) -> None:
            if not broken and is_finite(args) and not is_finite(outputs):
                broken.append(f"{name} ({type(module).__name__})")

        return module.register_forward_hook(hook)

    leaves = [(n, m) for n, m in model.named_modules() if n and not any(True for _ in m.children())]
    handles = [watch(name, module) for name, module in leaves]
    try:
        run_model(model, inputs)
    except Exception:  # only an explanation; the error that asked for it is raised
        return broken[0] if broken else ""
    finally:
        for handle in handles:
            handle.remove()
    return broken[0] if broken else ""


def explained(model: nn.Module, inputs: Any) -> str:
    """Why a network's outputs for a batch are not finite, as far as can be told.

    Args:
        model: The network, in the mode in which it was called.
        inputs: The batch.
    """
    if not is_finite(inputs):
        return "its inputs hold NaN or infinity; mend them, or leave the example out"
    if weight := broken_weight(model):
        return f"the weight {weight} holds NaN or infinity"
    if layer := first_broken_layer(model, inputs):
        return f"they become so in {layer}, from inputs and weights that are finite"
    return "inputs and weights are finite"


@torch.no_grad()
def why_outputs_are_nan(
    model: nn.Module,
    batches: Iterable[tuple[Any, Any]],
    *,
    answer: Callable[[Any], Tensor],
    where: str,
) -> str:
    """Find the first example of a split with outputs of NaN; return what to say about it.

    Args:
        model: The network, in the mode in which it was called.
        batches: (inputs, targets) in file order, on its device.
        answer: Gives the outputs for a batch.
        where: What was read, such as `the test split`.
    """
    seen = 0
    for inputs, _ in batches:
        outputs = answer(inputs)
        rows = outputs.reshape(len(outputs), -1).isnan().any(1).nonzero()
        if len(rows):
            number, why = seen + int(rows[0]), explained(model, inputs)
            remedy = "" if not is_finite(inputs) else "lower `lrn_rate`, or look at the network: "
            return f"the network's outputs are NaN for example {number} of {where}; {remedy}{why}"
        seen += len(outputs)
    return f"the network's outputs are NaN for an example of {where}; lower `lrn_rate`"


def refuse_broken_inputs(split: Split, name: str, *, batch: Any = None) -> None:
    """Read a split in file order and refuse the first example with NaN or infinity.

    Args:
        split: The split.
        name: Its name.
        batch: Inputs that were drawn from it; if they are finite, the split is not read.

    Raises:
        UserError: There is such an example; the message has its number, from 0, if it is found.
    """
    if batch is not None and is_finite(batch):
        return
    seen = 0
    for inputs, _ in split.batches(_BATCH):
        parts = list(_floats(inputs))
        if not parts and not seen:
            break  # whole numbers
        found = broken_example(inputs)
        if found is not None:
            raise UserError(broken_line(name, seen + found))
        seen += len(parts[0]) if parts else _BATCH
    if batch is not None:
        raise UserError(broken_line(name))


def broken_line(name: str, number: int | None = None) -> str:
    """What is said about such an example."""
    which = "an example" if number is None else f"example {number}"
    return (
        f"`data`: the inputs of {which} of the {name} split hold NaN or infinity; mend "
        "them, such as with torch.nan_to_num, or leave the example out"
    )


def _floats(value: Any) -> Iterator[Tensor]:
    """The tensors of real numbers in a structure."""
    return (part for part in tensors_of(value) if part.is_floating_point() or part.is_complex())
