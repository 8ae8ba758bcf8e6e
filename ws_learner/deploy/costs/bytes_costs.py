"""Bytes on disk of each layer's choices."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from envs import LayerRow
from ws_learner.core import LayerChoice, NumberFormat, UserError, check_choice
from ws_learner.deploy.costs.expected_bytes import Coded, coded, entry_bytes
from ws_learner.deploy.costs.formats import Formats, layer_of
from ws_learner.deploy.costs.machine import digest_of
from ws_learner.deploy.costs.random_zeros import layer_pattern
from ws_learner.deploy.runtime.quantisation import quantise_weight
from ws_learner.deploy.runtime.save import SCALES
from ws_learner.deploy.runtime.wsr_file import write_wsr

__all__ = ["BytesCosts", "network_bytes"]

FileFormat = Literal["wsr", "dense"]
_FLOAT = 4


class BytesCosts:
    """Implements `LayerCosts` for the size of a network's file, in bytes.

    In a `.wsr` file zeros are left out, and a layer of bytes has a scale for each output. Its size
    is the expected one for random zeros of the pattern; `network_bytes` has the exact one of
    finished weights. In a `dense` file, as of ONNX or safetensors, a zero takes as much as any
    other number.
    """

    unit = "bytes"

    def __init__(
        self, model: nn.Module, layers: Sequence[LayerRow], *, file_format: FileFormat = "wsr"
    ) -> None:
        """Take stock of the network.

        Args:
            model: Its other tensors make up the overhead.
            layers: The layer table.
            file_format: `wsr`, or `dense` for files that store zeros.

        Raises:
            UserError: There is no such format, or the model lacks a layer.
        """
        check_choice(file_format, FileFormat, name="file_format")
        self.file_format, self.layers = file_format, tuple(layers)
        state = model.state_dict()
        for row in layers:
            if row.name not in state:
                raise UserError(f"`layers`: {type(model).__name__} has no parameter {row.name}")
        listed = {row.name for row in layers}
        others = {name: tensor for name, tensor in state.items() if name not in listed}
        self._others = _written(others) if file_format == "wsr" else _plain(others)

    @property
    def overhead(self) -> float:
        """Bytes of all tensors that the table does not list."""
        return float(self._others)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the format, the sizes and the layers."""
        rows = [[row.name, list(row.shape)] for row in self.layers]
        return digest_of({"format": self.file_format, "layers": rows, "others": self._others})

    def cost(self, layer: int, choice: LayerChoice) -> float:
        """Bytes of a layer; see `LayerCosts`.

        Raises:
            UserError: The choice has more zeros than the layer has weights.
        """
        row = self.layers[layer]
        choice.density(row.weights, layer=row.name)
        outputs = row.shape[0]
        if self.file_format == "dense":
            each = 1 if choice.dtype == "int8" else _FLOAT
            return float(row.weights * each + _FLOAT * outputs * (choice.dtype == "int8"))
        # Many choices share their numbers, and a search asks again and again.
        return float(_layer_bytes(row, choice.pattern, choice.zeros, choice.dtype))


@lru_cache(maxsize=1 << 16)
def _layer_bytes(row: LayerRow, pattern: str, zeros: int, dtype: NumberFormat) -> int:
    kind = "int8" if dtype == "int8" else "float32"
    matrix = row.shape[0], math.prod(row.shape[1:])
    own = layer_pattern(pattern)
    coding: Coded = coded(matrix, own, 1 - zeros / row.weights, dtype)
    size = coding.size + entry_bytes(row.name, row.shape, kind, coding)
    if dtype == "int8":
        scales = (row.shape[0],)
        size += _FLOAT * row.shape[0] + entry_bytes(row.name + SCALES, scales, "float32", None)
    return size


def network_bytes(
    model: nn.Module, dtype: NumberFormat | Mapping[str, NumberFormat] = "fp32"
) -> int:
    """Exact bytes of the network's weights as a `.wsr` file.

    Args:
        model: The finished network, with its zeros.
        dtype: Of all weights of two or more axes, or by name; those not named are float32.
    """
    formats = Formats.read(dtype)
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        own = formats.uniform or formats.of_layers.get(layer_of(name), "fp32")
        if own == "int8" and name.endswith("weight") and tensor.dim() > 1:
            tensors |= _as_bytes(name, tensor)
        else:
            tensors[name] = tensor
    return _written(tensors)


def _as_bytes(name: str, weight: Tensor) -> dict[str, Tensor]:
    matrix = weight.detach().float().movedim(1, -1).reshape(len(weight), -1)
    whole, scales = quantise_weight(matrix.numpy())
    taps = weight.movedim(1, -1).shape
    stored = torch.from_numpy(whole).reshape(taps).movedim(-1, 1)
    return {name: stored, name + SCALES: torch.from_numpy(scales)}


def _written(tensors: Mapping[str, Tensor]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.wsr"
        write_wsr(path, tensors)
        return path.stat().st_size


def _plain(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
