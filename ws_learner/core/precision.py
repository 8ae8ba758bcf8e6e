"""Networks in half precision: computed in float32 and stored in their own type again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

__all__ = ["half_types", "narrowed", "tensor_types", "widened"]

_HALF = (torch.float16, torch.bfloat16)


def half_types(model: nn.Module) -> str:
    """The types of half precision that a network's tensors have, such as `bfloat16`."""
    found = {tensor.dtype for tensor in [*model.parameters(), *model.buffers()]}
    return " and ".join(str(kind).removeprefix("torch.") for kind in _HALF if kind in found)


def widened(model: nn.Module) -> nn.Module:
    """Turn all tensors of half precision into float32, in place."""
    if half_types(model):
        for _, tensor in _named(model):
            if tensor.dtype in _HALF:
                tensor.data = tensor.data.float()
    return model


def tensor_types(model: nn.Module) -> dict[str, torch.dtype]:
    """Type of each parameter and buffer."""
    return {name: tensor.dtype for name, tensor in _named(model)}


@torch.no_grad()
def narrowed(model: nn.Module, types: Mapping[str, torch.dtype]) -> nn.Module:
    """Give parameters and buffers the types that `tensor_types` read before `widened`, in place.

    A number that is not 0 stays so: too small a one becomes the least of its type.
    """
    for name, tensor in _named(model):
        kind = types.get(name, tensor.dtype)
        if kind in _HALF and tensor.dtype != kind:
            tensor.data = _rounded(tensor.data, kind)
    return model


def _named(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _rounded(values: Tensor, kind: torch.dtype) -> Tensor:
    found = values.to(kind)
    lost = (found == 0) & (values != 0)
    if bool(lost.any()):
        limits = torch.finfo(kind)  # float16 has smaller ones, which are normal in float32
        least = limits.smallest_normal * (limits.eps if kind is torch.float16 else 1.0)
        found = torch.where(lost, (least * values.sign()).to(kind), found)
    return found
