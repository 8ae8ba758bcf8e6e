"""Safetensors files written tensor by tensor, so that no network has to fit in memory.

The format: 8 bytes with the header's length (little-endian), the header as JSON with the place of
each tensor, the tensors' bytes (https://huggingface.co/docs/safetensors).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ws_learner.core import write_with
from ws_learner.language.tensor_folder import DTYPES

__all__ = ["TensorEntry", "write_tensor_by_tensor"]

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, kw_only=True)
class TensorEntry:
    """A tensor to write.

    Attributes:
        name: Its name in the file.
        shape: Its shape.
        dtype: Its number format.
        read: Returns it; called once, when its turn has come.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]


def write_tensor_by_tensor(
    path: Path, entries: Sequence[TensorEntry], *, metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file; it is renamed into place when it is complete.

    Args:
        path: The file.
        entries: The tensors, in the order of the file.
        metadata: Texts for the header.

    Raises:
        UserError: The disk is full or the folder cannot be written.
    """
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    place = 0
    for entry in entries:
        size = math.prod(entry.shape) * entry.dtype.itemsize
        header[entry.name] = {
            "dtype": _NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [place, place + size],
        }
        place += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for entry in entries:
                tensor = entry.read().to(entry.dtype).reshape(entry.shape).contiguous()
                file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)

    write_with(path, write)
