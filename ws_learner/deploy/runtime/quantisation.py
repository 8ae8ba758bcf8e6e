"""INT8 quantisation: weights by their largest value, activations by observed ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["Calibration", "InputScale", "RangeObserver", "quantise_weight"]

Calibration = Literal["minmax", "percentile"]
_SAMPLE = 1 << 14


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


def quantise_weight(
    weight: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Symmetric, one scale for each output: (N, K) int8 within -127 and 127, and (N,) scales."""
    most = np.abs(weight).max(axis=1, initial=0)
    scales = np.where(most > 0, most / np.float32(127), np.float32(1)).astype(np.float32)
    whole = np.rint(weight / scales[:, None])
    return np.clip(whole, -127, 127).astype(np.int8), scales


class RangeObserver:
    """Observes activations and chooses their quantisation range."""

    def __init__(self, method: Calibration = "minmax", *, percentile: float = 99.99) -> None:
        """Choose the range from least to largest, or between percentiles of a sample."""
        self._method, self._share = method, percentile / 100
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
        if self._method == "percentile":
            # Evenly spaced, so that the same data give the same range.
            self._kept.append(flat[:: max(1, flat.numel() // _SAMPLE)].clone())

    def settle(self) -> InputScale:
        """The range as bytes."""
        if self._method == "minmax" or not self._kept:
            return InputScale.of_range(self._low, self._high)
        sample = torch.cat(self._kept).numpy()
        low, high = np.quantile(sample, [1 - self._share, self._share])
        if low == high:  # nearly all are one value, as of words that are ones among zeros
            low, high = self._low, self._high
        return InputScale.of_range(float(low), float(high))
