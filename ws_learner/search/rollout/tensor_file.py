"""Tensors in one file of known size, of which only those in use are in memory.

The file is a safetensors file. It is laid out, and its space on the disk taken, before the first
tensor is computed; each tensor is then mapped while it is read or written.
"""

from __future__ import annotations

import errno
import hashlib
import json
import operator
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ws_learner.core import UserError, parse_json

__all__ = ["MappedTensors", "TensorFile", "refuse_full_disk"]

_TYPES: dict[str, tuple[str, int]] = {"F32": ("float32", 4), "F64": ("float64", 8)}
_NO_DIGEST = "0" * 64
_CHUNK = 1 << 24
_MOST_HEADER = 100 << 20


@dataclass(frozen=True)
class TensorFile:
    """Tensors of a file, by name.

    Attributes:
        path: The file.
        metadata: Texts in its header.
        entries: Type, shape, first byte and end of each tensor.
    """

    path: Path
    metadata: Mapping[str, str]
    entries: Mapping[str, tuple[str, tuple[int, ...], int, int]]

    @classmethod
    def create(
        cls, path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...]]], *, key: str = ""
    ) -> Self:
        """Lay out a file of zeros and take its space on the disk.

        Args:
            path: The file; its folder exists.
            tensors: Type (`F32` or `F64`) and shape of each tensor.
            key: Identity of the contents, for the header.

        Raises:
            OSError: The disk has no room for it.
        """
        header: dict[str, Any] = {"__metadata__": {"key": key, "sha256": _NO_DIGEST}}
        at = 0
        for name, (kind, shape) in sorted(tensors.items(), key=lambda item: item[1][0] != "F64"):
            size = _TYPES[kind][1] * prod(shape)
            header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + size]}
            at += size
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)  # tensors start at whole numbers of their type
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.flush()
            file.truncate(8 + len(text) + at)
            _take_space(file.fileno(), 8 + len(text) + at)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read the header.

        Raises:
            OSError: The file cannot be read.
            ValueError: It is no file of tensors, or is shorter than its header says.
        """
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            size = path.stat().st_size
            if length > min(size, _MOST_HEADER):
                raise ValueError("its header is cut off")
            header = parse_json(file.read(length).decode(), where="header", remedy="damaged")
        metadata = header.pop("__metadata__", {}) if isinstance(header, dict) else None
        if not isinstance(metadata, dict):
            raise ValueError("its header is none of tensors")
        start = 8 + length
        entries = {name: _entry(entry, start, size=size) for name, entry in header.items()}
        return cls(path, metadata, entries)

    def tensor(self, name: str, *, write: bool = False) -> Tensor:
        """The tensor, mapped while it lives; what is written to it is kept with `write` only."""
        kind, shape, begin, _ = self.entries[name]
        dtype = _TYPES[kind][0]
        if not prod(shape):
            return torch.zeros(shape, dtype=getattr(torch, dtype))
        mode = "r+" if write else "c"
        return torch.from_numpy(
            np.memmap(self.path, dtype=dtype, mode=mode, offset=begin, shape=shape)  # type: ignore[call-overload]
        )

    def digest(self) -> str:
        """SHA-256 of names and contents, in the order of the names."""
        found = hashlib.sha256()
        with self.path.open("rb") as file:
            for name, (_, _, begin, end) in sorted(self.entries.items()):
                found.update(name.encode())
                file.seek(begin)
                for place in range(begin, end, _CHUNK):
                    found.update(file.read(min(_CHUNK, end - place)))
        return found.hexdigest()

    def seal(self) -> None:
        """Write the digest into the header."""
        with self.path.open("r+b") as file:
            head = file.read(int.from_bytes(file.read(8), "little"))
            file.seek(8)
            file.write(head.replace(_NO_DIGEST.encode(), self.digest().encode(), 1))
            file.flush()
            os.fsync(file.fileno())


def _entry(entry: Any, start: int, *, size: int) -> tuple[str, tuple[int, ...], int, int]:
    """Type, shape, first byte and end of a tensor, if they fit together and the file's size."""
    kind, shape = entry["dtype"], tuple(operator.index(side) for side in entry["shape"])
    begin, end = (operator.index(place) for place in entry["data_offsets"])
    if kind not in _TYPES or min((*shape, begin), default=0) < 0:
        raise ValueError("an entry of its header is none of a tensor")
    if end - begin != _TYPES[kind][1] * prod(shape) or start + end > size:
        raise ValueError("it is cut off")
    return kind, shape, start + begin, start + end


class MappedTensors(Sequence[Tensor]):
    """Tensors `NAME.0`, `NAME.1`, ... of a file, each mapped while it is in use."""

    def __init__(self, file: TensorFile, name: str, count: int) -> None:
        self._file, self._name, self._count = file, name, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(index)
        return self._file.tensor(f"{self._name}.{index % self._count}")


def _take_space(file: int, size: int) -> None:
    """Take the space, since a full disk would end the process at a write to mapped memory."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # other errors: a file system that cannot do this


def refuse_full_disk(folder: Path, needed: int) -> None:
    """Refuse to begin what the folder's disk has no room for.

    Args:
        folder: An existing folder.
        needed: Bytes.

    Raises:
        UserError: Fewer are free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"layer database: needs {needed / 2**30:.1f} GiB in {folder}, {free / 2**30:.1f} GiB "
            "are free; free some, or let the environment variable `WS_DATA_DIR` name a folder on "
            "another disk"
        )
