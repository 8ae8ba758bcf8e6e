"""The `.wsr` file format: sparse named tensors. It holds no code and no pickle.

8 bytes   WSR-0001
8 bytes   length of the header, little-endian
header    JSON: for each tensor its shape, type, coding and place; and metadata
tensors
32 bytes  SHA-256 of all before
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ws_learner.core import AnyPath, UserError, as_path, parse_json, shown, write_bytes
from ws_learner.deploy.runtime.sparse_coding import decode_sparse, encode_sparse
from ws_learner.deploy.runtime.wsr_header import check_entries

__all__ = ["read_wsr", "write_wsr"]

_MAGIC, _DIGEST = b"WSR-0001", 32
_PLAIN = {"int64": torch.int64, "int32": torch.int32, "uint8": torch.uint8, "bool": torch.bool}
_FLOATS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_FLOATS |= {"float64": torch.float64}


def write_wsr(
    path: AnyPath,
    tensors: Mapping[str, Tensor],
    *,
    metadata: Mapping[str, Any] | None = None,
    values: str = "fp32",
) -> None:
    """Write a file, whole or not at all.

    Floating-point tensors of two or more dimensions, and int8 ones, are stored without their
    zeros where that is smaller; other tensors as they are.

    Args:
        path: Of the file.
        tensors: By name.
        metadata: Of JSON's types.
        values: `fp32`, or `bf16` to halve matrices by rounding.

    Raises:
        UserError: `values` is neither, a tensor has an unusual type, or the disk is full.
    """
    path = as_path(path)
    if values not in {"fp32", "bf16"}:
        raise UserError(f"values {values}: give fp32 or bf16")
    entries, parts, at = {}, [], 0
    for name, tensor in tensors.items():
        entry, own = _entry(name, tensor.detach().cpu().contiguous(), values)
        size = sum(part.size for part in own)
        entries[name] = entry | {"at": at, "size": size}
        parts += own
        at += size
    header = json.dumps({"tensors": entries, "metadata": dict(metadata or {})}).encode()
    body = b"".join(
        [_MAGIC, len(header).to_bytes(8, "little"), header, *(p.tobytes() for p in parts)]
    )
    write_bytes(path, body + hashlib.sha256(body).digest())


def read_wsr(path: AnyPath) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read all tensors and the metadata.

    Raises:
        UserError: The file is missing, of another kind, of a later version, or damaged.
    """
    path = as_path(path)
    try:
        body = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot read it: {error.strerror or error}") from error
    if not body.startswith(_MAGIC[:4]):
        raise UserError(f"{path} is no .wsr file; make one with python -m experiments.export")
    if not body.startswith(_MAGIC):
        raise UserError(f"{path} is of another version of .wsr; export the run again")
    if hashlib.sha256(body[:-_DIGEST]).digest() != body[-_DIGEST:]:
        raise UserError(
            f"{path} is damaged or incomplete (SHA-256 differs); copy or export it again"
        )
    try:
        length = int.from_bytes(body[8:16], "little")
        room = len(body) - 16 - length - _DIGEST
        if room < 0:
            raise ValueError("the header is cut off")
        text = body[16 : 16 + length].decode()
        header = parse_json(text, where="header", remedy="it is damaged")
        entries, metadata = check_entries(header, room=room)
        data = np.frombuffer(body, np.uint8)[16 + length : len(body) - _DIGEST]
        return {name: _tensor(entry, data) for name, entry in entries.items()}, metadata
    except (ValueError, KeyError, TypeError, RuntimeError, MemoryError) as error:
        reason = shown(str(error), most=200)
        raise UserError(
            f"{path}: does not follow the format ({reason}); export it again"
        ) from error


def _entry(
    name: str, tensor: Tensor, values: str
) -> tuple[dict[str, Any], list[npt.NDArray[np.uint8]]]:
    kind = str(tensor.dtype).removeprefix("torch.")
    entry: dict[str, Any] = {"shape": list(tensor.shape), "dtype": kind}
    matrix = tensor.dim() >= 2 and tensor.numel() > 0
    if kind == "int8" and matrix:
        head, parts = encode_sparse(tensor.reshape(len(tensor), -1).numpy(), "int8")
    elif kind in _FLOATS and matrix and kind != "float64":
        head, parts = encode_sparse(_matrix(tensor.float()), values)
    elif kind in _PLAIN or kind in _FLOATS or kind == "int8":
        raw = tensor.reshape(-1).view(torch.uint8) if tensor.numel() else torch.zeros(0).byte()
        head, parts = {}, [raw.numpy()]
    else:
        raise UserError(f"tensor {name}: cannot store {tensor.dtype}")
    return entry | {"coding": head}, parts


def _matrix(tensor: Tensor) -> npt.NDArray[np.float32]:
    """(O, I, *taps) as (O, taps x I), as patterns are cut."""
    if tensor.dim() > 2:
        tensor = tensor.movedim(1, -1)
    matrix: npt.NDArray[np.float32] = tensor.reshape(len(tensor), -1).contiguous().numpy()
    return matrix


def _tensor(entry: dict[str, Any], data: npt.NDArray[np.uint8]) -> Tensor:
    shape, kind = entry["shape"], entry["dtype"]
    own = data[entry["at"] : entry["at"] + entry["size"]]
    if entry["coding"]:
        matrix = torch.from_numpy(decode_sparse(entry["coding"], own))
        if kind == "int8" or len(shape) == 2:
            result = matrix.reshape(shape)
        else:
            result = matrix.reshape(shape[0], *shape[2:], shape[1]).movedim(-1, 1).contiguous()
        return result if kind == "int8" else result.to(_FLOATS[kind])
    dtype = {**_PLAIN, **_FLOATS, "int8": torch.int8}[kind]
    if kind == "bool" and bool((own > 1).any()):
        raise ValueError("a truth value that is none")
    if not math.prod(shape):
        return torch.zeros(shape, dtype=dtype)
    return torch.from_numpy(own.copy()).view(dtype).reshape(shape)
