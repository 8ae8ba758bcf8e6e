"""INT8 quantisation: weights by their largest value, activations by observed ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ws_learner.core import UserError

__all__ = [
    "Calibration",
    "InputScale",
    "RangeMethod",
    "RangeObserver",
    "least_scales",
    "quantise_weight",
]

RangeMethod = Literal["minmax", "percentile"]
Calibration = Literal["auto", "minmax", "percentile"]
_SAMPLE = 1 << 14
_CACHED = 1 << 17  # weights that are rounded together: their floats stay in the second cache
_TINY = float(np.finfo(np.float32).tiny)
_BIAS_STEPS = 2.0**30
_SMALLEST_STEP = 2.0**-100  # of input scale x weight scale: far from float32's underflow


@dataclass(frozen=True, kw_only=True)
class InputScale:
    """Bytes of activations: real = scale (byte - zero).

    Attributes:
        scale: Of one step, above 0.
        zero: The byte, 0 to 255, that means 0.
    """

    scale: float
    zero: int

    @classmethod
    def of_range(cls, low: float, high: float) -> InputScale:
        """Spread the 256 bytes over [low, high], which is widened to hold 0."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = max((high - low) / 255, 1e-12)
        scale = float(np.float32(scale))
        return cls(scale=scale, zero=int(np.clip(round(-low / scale), 0, 255)))

    def quantise(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """As kernels do it: rint(x * (1 / scale) + zero) within 0 and 255, rounded once before."""
        inverse = np.float64(np.float32(1 / self.scale))
        scaled = (values.astype(np.float64) * inverse + self.zero).astype(np.float32)
        bytes_: npt.NDArray[np.uint8] = np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
        return bytes_

    def rounded(self, values: Tensor) -> Tensor:
        """Floats as they are after a way to bytes and back."""
        steps = torch.clamp(torch.round(values / self.scale) + self.zero, 0, 255)
        return (steps - self.zero) * self.scale


def quantise_weight(
    weight: npt.NDArray[np.float32], *, least: npt.NDArray[np.float64] | None = None
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Symmetric, one scale for each output: (N, K) int8 within -127 and 127, and (N,) scales.

    Args:
        weight: (N, K).
        least: (N,) smallest scale of each output, and the scale of rows that are all zero. By
            default that is 1, and so it is for rows too small for float32.
    """
    most = np.maximum(weight.max(axis=1, initial=0), -weight.min(axis=1, initial=0))
    scales = (most / np.float32(127)).astype(np.float64)
    empty = scales < _TINY
    scales = np.where(empty, 1.0, scales) if least is None else np.maximum(scales, least)
    narrow = scales.astype(np.float32)
    bytes_ = np.empty(weight.shape, np.int8)
    step = max(1, _CACHED // max(weight.shape[1], 1))
    for first in range(0, len(weight), step):
        part = slice(first, first + step)
        rows = weight[part] / narrow[part, None]
        np.clip(np.rint(rows, out=rows), -127, 127, out=rows)
        rows[empty[part]] = 0
        bytes_[part] = rows
    return bytes_, narrow


def least_scales(bias: npt.NDArray[np.float64], source: InputScale) -> npt.NDArray[np.float64]:
    """(N,) smallest weight scales for which an int32 bias holds its value.

    The bias is stored in steps of input scale x weight scale. A bias of up to 2^30 steps leaves
    room for the sum that it is added to, and at the smallest scale it has 30 bits.

    Args:
        bias: (N,).
        source: Of the layer's input.

    Raises:
        UserError: A bias is not finite, or so large that its scale is no float32.
    """
    least = np.maximum(np.abs(bias) / _BIAS_STEPS, _SMALLEST_STEP) / source.scale
    if not (least < np.finfo(np.float32).max).all():
        raise UserError(
            f"INT8: a bias of {bias[~(least < np.finfo(np.float32).max)][0]:g} does not fit 32 "
            f"bits with inputs in steps of {source.scale:g}; export float32"
        )
    return least


class RangeObserver:
    """Observes activations and chooses their quantisation range.

    Attributes:
        method: Of `settle`. An observer that began with `minmax` has no percentiles.
    """

    def __init__(self, method: RangeMethod = "minmax", *, percentile: float = 99.99) -> None:
        """Choose the range from least to largest, or between percentiles of a sample."""
        self.method: RangeMethod = method
        self._share = percentile / 100
        self._low, self._high = 0.0, 0.0
        self._kept: list[Tensor] = []

    def see(self, values: Tensor) -> None:
        """Take note of a tensor."""
        flat = values.detach().reshape(-1).float()
        flat = flat[flat.isfinite()]
        if not flat.numel():
            return
        self._low = min(self._low, float(flat.min()))
        self._high = max(self._high, float(flat.max()))
        if self.method == "percentile":
            # Evenly spaced, so that the same data give the same range.
            self._kept.append(flat[:: max(1, flat.numel() // _SAMPLE)].clone())

    def settle(self, method: RangeMethod | None = None) -> InputScale:
        """The range as bytes, by the observer's method or another one."""
        if (method or self.method) == "minmax" or not self._kept:
            return InputScale.of_range(self._low, self._high)
        sample = torch.cat(self._kept).numpy()
        low, high = np.quantile(sample, [1 - self._share, self._share])
        if low == high:  # nearly all are one value, as of words that are ones among zeros
            low, high = self._low, self._high
        return InputScale.of_range(float(low), float(high))
