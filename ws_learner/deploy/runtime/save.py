"""Save a compiled network to a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ws_learner.deploy.runtime.modules import LayerData
from ws_learner.deploy.runtime.selection import KernelChoice
from ws_learner.deploy.runtime.wsr_file import write_wsr

__all__ = ["SCALES", "save_compiled"]

SCALES = "\x00scales"
"""What follows a weight's name for the scales of its bytes; no parameter's name ends so."""


def save_compiled(
    path: Path,
    state: Mapping[str, Tensor],
    *,
    choices: Mapping[str, KernelChoice],
    datas: Mapping[str, LayerData],
    facts: Mapping[str, Any],
    values: str,
) -> None:
    """Write weights under their own names, as bytes where the chosen kernel uses bytes.

    Args:
        path: Of the file.
        state: The original network's state_dict.
        choices: By layer; none of them is used as bytes if `facts["dense"]`.
        datas: Numbers of these layers.
        facts: What else `load_sparse` reads.
        values: `fp32` or `bf16`.
    """
    tensors: dict[str, Tensor] = {}
    addresses = Counter(tensor.data_ptr() for tensor in state.values())
    for name, tensor in state.items():
        layer = name.removesuffix(".weight")
        choice = choices.get(layer) if name.endswith(".weight") else None
        shared = addresses[tensor.data_ptr()] > 1  # others read its floats
        if choice is not None and _as_bytes(choice) and not facts["dense"] and not shared:
            weight, scales = datas[layer].stored_bytes()
            tensors[name] = _as_stored(torch.from_numpy(weight), tensor)
            tensors[name + SCALES] = torch.from_numpy(scales)
        else:
            tensors[name] = tensor
    sources = {
        name: None if data.source is None else [data.source.scale, data.source.zero]
        for name, data in datas.items()
    }
    plain = {name: choice.plain() for name, choice in choices.items()}
    metadata = {"kind": "compiled", "choices": plain, "sources": sources, **facts}
    write_wsr(path, tensors, metadata=metadata, values=values)


def _as_bytes(choice: KernelChoice) -> bool:
    return choice.kernel == "dense int8" or (choice.spec is not None and choice.spec.int8)


def _as_stored(matrix: Tensor, like: Tensor) -> Tensor:
    """A layer's matrix in the shape of its weight."""
    if like.dim() == 4:
        o, i, *taps = like.shape
        return matrix.reshape(o, *taps, i).permute(0, 3, 1, 2).contiguous()
    return matrix.reshape(like.shape)
