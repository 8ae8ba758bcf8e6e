"""The file of a layer database that is in memory: read if it is whole, else built again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ws_learner.core import remove_unfinished, say, write_tensors, write_with

__all__ = ["CACHE_REMEDY", "cache_tensors", "content_digest", "read_database", "take_tensors"]

CACHE_REMEDY = (
    "free space, or let the environment variable `WS_DATA_DIR` name a folder on another disk"
)
_STALE = 86400.0  # seconds after which an unfinished file is nobody's


def cache_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors to a file of the cache folder, which other processes may use.

    Raises:
        UserError: The disk is full or the folder cannot be written.
    """
    remove_unfinished(path.parent, older=_STALE)
    write_with(
        path,
        lambda temporary: write_tensors(temporary, tensors, metadata=metadata),
        remedy=CACHE_REMEDY,
    )


def read_database(
    path: Path,
    key: str,
    shapes: Sequence[tuple[int, ...]],
    weights: Sequence[Tensor],
    *,
    levels: int,
) -> dict[str, Tensor] | None:
    """The tensors of a database's file; None, with a line, if it must be built again.

    Args:
        path: The file.
        key: Identity of the contents.
        shapes: L shapes of Gram matrices.
        weights: L dense weights.
        levels: K, the number of levels.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, TypeError, RuntimeError) as error:
        say(f"layer database {path}: cannot be read ({error}); rebuilding it")
        return None
    if metadata.get("key") != key:
        say(f"layer database {path}: belongs to another network or setting; rebuilding it")
    elif metadata.get("sha256") != content_digest(tensors) or not _has_shapes(
        tensors, shapes, weights, levels=levels
    ):
        say(f"layer database {path}: is damaged; rebuilding it")
    else:
        return tensors
    return None


def _has_shapes(
    tensors: dict[str, Tensor],
    shapes: Sequence[tuple[int, ...]],
    weights: Sequence[Tensor],
    *,
    levels: int,
) -> bool:
    """Whether names, shapes and types, which the digest does not cover, are those of a database."""
    wanted = {f"gram.{layer}": (shape, torch.float32) for layer, shape in enumerate(shapes)}
    wanted["errors"] = ((len(shapes), levels), torch.float64)
    for name in tensors.keys() - wanted.keys():
        kind, _, rest = name.partition(".")
        layer, _, zeros = rest.partition(".")
        if kind != "weight" or not layer.isdecimal() or not zeros.isdecimal():
            return False
        if int(layer) >= len(weights):
            return False
        weight = weights[int(layer)]
        wanted[name] = (tuple(weight.shape), weight.dtype)
    return all(
        name in tensors and (tuple(tensors[name].shape), tensors[name].dtype) == about
        for name, about in wanted.items()
    )


def take_tensors(stored: dict[str, Tensor], kind: str, count: int) -> list[Tensor]:
    """The tensors `KIND.0`, `KIND.1`, ..."""
    return [stored[f"{kind}.{index}"] for index in range(count)]


def content_digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 of names and contents, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(_bytes(tensors[name]))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> Any:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data
