"""Check tensors before generated code gets their address; it checks nothing itself."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["floats_of", "readable"]


def readable(x: Tensor, *, what: str, dtype: torch.dtype, shape: tuple[int | None, ...]) -> Tensor:
    """`x` itself, if its memory is as a kernel reads it.

    Args:
        x: A tensor.
        what: Named in the error.
        dtype: Of its elements.
        shape: Sizes; None where any will do.

    Raises:
        RuntimeError: It is of another type or shape, elsewhere, or not in one piece.
    """
    sizes = x.shape
    if len(sizes) != len(shape) or any(
        size is not None and size != own for own, size in zip(sizes, shape, strict=True)
    ):
        wanted = ", ".join("*" if size is None else str(size) for size in shape)
        raise RuntimeError(f"{what}: expected shape ({wanted}), but got {tuple(sizes)}")
    if x.dtype != dtype or x.is_neg():
        raise RuntimeError(f"{what}: expected {dtype}, but got {x.dtype}")
    if x.device.type != "cpu" or x.layout != torch.strided:
        raise RuntimeError(
            f"{what}: expected a dense tensor on cpu, but got {x.layout}, {x.device}"
        )
    if not x.is_contiguous():
        raise RuntimeError(f"{what}: expected a contiguous tensor, but strides are {x.stride()}")
    return x


def floats_of(x: Tensor) -> Tensor:
    """`x` as float32, without gradients; of another type only under autocast, as PyTorch has it.

    Raises:
        RuntimeError: It is of another type.
    """
    if x.dtype == torch.float32:
        return x.detach() if x.requires_grad else x
    if x.is_floating_point() and torch.is_autocast_enabled("cpu"):
        return x.detach().float()
    raise RuntimeError(f"a compiled layer takes float32, not {x.dtype}: give inputs.float()")
