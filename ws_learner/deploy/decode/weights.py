"""Weights of transformers' networks as the decode engine takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from ws_learner.core import UserError
from ws_learner.deploy.decode.numbers import Floats, group_nibbles, row_bytes
from ws_learner.deploy.decode.packing import Packed, pack_bytes, pack_floats, pack_nibbles

__all__ = ["DTYPES", "Pack", "end_tokens", "floats", "joined", "layer", "packer", "with_words"]

DTYPES = ("fp32", "int8", "int4")
Pack = Callable[..., Packed]


def packer(*, dtype: str, group: int, least_zeros: float) -> Pack:
    """A function of (weight, bias, dense=False) that packs a layer.

    Args:
        dtype: One of `DTYPES`.
        group: Inputs that share a scale, for `int4`.
        least_zeros: Share of zeros from which a layer gets masks.

    Raises:
        UserError: An option is none of those.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype={dtype!r}: give one of {', '.join(DTYPES)}")
    if group not in (32, 64):
        raise UserError(f"group={group!r}: give 32 or 64")

    def pack(weight: Floats, bias: Floats | None, *, dense: bool = False) -> Packed:
        masked = not dense and float((weight == 0).mean()) >= least_zeros
        if dtype == "fp32":
            return pack_floats(weight, bias=bias, masked=masked)
        if dtype == "int8":
            return pack_bytes(row_bytes(weight), bias=bias, masked=masked)
        matrix = group_nibbles(weight, group=group, masked=masked)
        return pack_nibbles(matrix, bias=bias, masked=masked)

    return pack


def floats(tensor: Tensor) -> Floats:
    """A tensor as contiguous float32.

    Raises:
        UserError: A number is not finite.
    """
    found: Floats = tensor.detach().float().cpu().numpy()
    if not np.isfinite(found).all():
        raise UserError("the network has weights that are not finite; it cannot be compiled")
    return np.ascontiguousarray(found)


def layer(state: dict[str, Tensor], name: str) -> tuple[Floats, Floats | None]:
    """(N, K) weight and bias of a linear layer."""
    bias = state.get(f"{name}.bias")
    return floats(state[f"{name}.weight"]), None if bias is None else floats(bias)


def joined(parts: list[tuple[Floats, Floats | None]], *, each: int) -> tuple[Floats, Floats | None]:
    """Matrices one below the other, each with at least `each` rows."""
    rows = [np.pad(w, ((0, max(each - len(w), 0)), (0, 0))) for w, _ in parts]
    biases = [
        np.zeros(len(r), np.float32) if b is None else np.pad(b, (0, len(r) - len(b)))
        for r, (_, b) in zip(rows, parts, strict=True)
    ]
    none = all(bias is None for _, bias in parts)
    return np.concatenate(rows), None if none else np.concatenate(biases)


def with_words(
    rows: Floats, head: tuple[Floats, Floats | None], *, dtype: str, pack: Pack
) -> dict[str, Packed]:
    """The embedding, and the head unless both can be one matrix."""
    whole = dtype == "fp32"
    found = {
        "embedding": pack_floats(rows, masked=False)
        if whole
        else pack_bytes(row_bytes(rows), masked=False)
    }
    tied = head[1] is None and np.array_equal(head[0], rows)
    return found if tied and dtype != "int4" else found | {"head": pack(*head, dense=True)}


def end_tokens(model: Any) -> tuple[int, ...]:
    """Tokens that end a text."""
    end = model.generation_config.eos_token_id if model.generation_config else None
    end = model.config.eos_token_id if end is None else end
    return () if end is None else tuple(end) if isinstance(end, list) else (int(end),)
