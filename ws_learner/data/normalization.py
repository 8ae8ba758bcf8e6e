"""Normalisation of uint8 pixels to float32 by lookup table, bit-identical on every processor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["normalise", "normalise_table"]


def normalise_table(mean: Sequence[float], std: Sequence[float]) -> npt.NDArray[np.float32]:
    """Lookup table of (value / 255 - mean) / std, computed in float64 and rounded once.

    Args:
        mean: One value per channel, in units of the full pixel range (0 to 1).
        std: One value per channel in the same units, above zero.

    Returns:
        (C, 256).

    Raises:
        ValueError: The lengths differ, or a value of `std` is not above zero.
    """
    centre, scale = np.asarray(mean, dtype=np.float64), np.asarray(std, dtype=np.float64)
    if centre.shape != scale.shape or centre.ndim != 1 or not (scale > 0).all():
        raise ValueError(
            f"mean {list(mean)} and std {list(std)}: give one value per channel, std > 0"
        )
    values = np.arange(256, dtype=np.float64) / 255
    return ((values - centre[:, None]) / scale[:, None]).astype(np.float32)


def normalise(
    pixels: npt.NDArray[np.uint8],  # (B, H, W, C)
    table: npt.NDArray[np.float32],  # (C, 256)
) -> npt.NDArray[np.float32]:
    """Normalise pixels by `table` and move the channels first: (B, C, H, W)."""
    batch, height, width, channels = pixels.shape
    out = np.empty((batch, channels, height, width), dtype=np.float32)
    for channel in range(channels):
        out[:, channel] = table[channel][pixels[..., channel]]
    return out
