"""Decode networks as `.wsr` files: packed streams, norms, sizes and tokenizer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ws_learner.core import AnyPath, UserError, as_path, shown
from ws_learner.deploy.decode.network import Network, Sizes, check_network
from ws_learner.deploy.decode.packing import Format, Packed
from ws_learner.deploy.runtime.wsr_file import read_wsr, write_wsr

__all__ = ["read_network", "write_network"]

_KIND = "decode-1"
_FORMATS = {"f32", "i8", "i4"}


def write_network(path: AnyPath, network: Network) -> None:
    """Write a network, whole or not at all.

    Raises:
        UserError: The file cannot be written.
    """
    tensors: dict[str, Tensor] = {
        "frequencies": torch.from_numpy(network.frequencies),
        "positions": torch.from_numpy(network.positions),
    }
    matrices = {}
    for name, packed in network.matrices.items():
        tensors[f"stream {name}"] = torch.from_numpy(packed.stream)
        matrices[name] = {
            "outputs": packed.outputs,
            "inputs": packed.inputs,
            "levels": packed.levels.tolist(),
            **asdict(packed.format),
        }
    tensors |= {f"norm {name}": torch.from_numpy(norm) for name, norm in network.norms.items()}
    metadata = {
        "kind": _KIND,
        "dtype": network.dtype,
        "architecture": network.architecture,
        "sizes": asdict(network.sizes),
        "matrices": matrices,
        "end": list(network.end),
        "tokenizer": network.tokenizer,
    }
    write_wsr(path, tensors, metadata=metadata)


def read_network(path: AnyPath) -> Network:
    """Read and check a network.

    Raises:
        UserError: The file is missing or damaged, or holds something else.
    """
    path = as_path(path)
    tensors, metadata = read_wsr(path)
    if metadata.get("kind") != _KIND:
        raise UserError(f"{path}: holds no network for decode; write it with SparseLM.save")
    try:
        return check_network(_network(tensors, metadata))
    except (UserError, KeyError, TypeError, ValueError, OverflowError) as error:
        reason = shown(str(error) or type(error).__name__, most=200)
        raise UserError(f"{path}: does not follow the format ({reason}); save it again") from error


def _network(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> Network:
    sizes, tokenizer, end = (metadata[n] for n in ("sizes", "tokenizer", "end"))
    if metadata["dtype"] not in ("fp32", "int8", "int4") or not isinstance(tokenizer, str):
        raise ValueError("dtype or tokenizer")
    if set(sizes) != {field.name for field in fields(Sizes)}:
        raise ValueError("sizes are missing")
    if not all(math.isfinite(value) for value in sizes.values()):
        raise ValueError("a size that is no number")
    matrices = {
        name: _packed(entry, tensors[f"stream {name}"])
        for name, entry in metadata["matrices"].items()
    }
    kinds = {packed.format.values for packed in matrices.values()}
    if (metadata["dtype"] == "fp32") != (kinds == {"f32"}) or ("f32" in kinds and len(kinds) > 1):
        raise ValueError("matrices of another dtype")
    return Network(
        sizes=Sizes(**sizes),
        dtype=metadata["dtype"],
        matrices=matrices,
        norms={n[5:]: _floats(t) for n, t in tensors.items() if n.startswith("norm ")},
        frequencies=_floats(tensors["frequencies"]),
        architecture=str(metadata.get("architecture", "llama")),  # older files have Llamas alone
        positions=_floats(tensors.get("positions", torch.zeros(0))),
        end=tuple(_whole(token) for token in end),
        tokenizer=tokenizer,
    )


def _floats(tensor: Tensor) -> Any:
    if tensor.dtype != torch.float32 or tensor.dim() != 1:
        raise ValueError("floats of another type or shape")
    return tensor.numpy()


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 31:
        raise ValueError("a number that must be whole is not")
    return value


def _packed(entry: Mapping[str, Any], stream: Tensor) -> Packed:
    if entry["values"] not in _FORMATS or type(entry["masked"]) is not bool:
        raise ValueError("a format that is none")
    levels = [int(level) for level in entry["levels"]]
    if not all(-128 <= level <= 127 for level in levels) or stream.dim() != 1:
        raise ValueError("levels or a stream that are none")
    return Packed(
        format=Format(values=entry["values"], masked=entry["masked"], group=_whole(entry["group"])),
        outputs=_whole(entry["outputs"]),
        inputs=_whole(entry["inputs"]),
        levels=np.array(levels, np.int8),
        stream=stream.numpy(),
    )
