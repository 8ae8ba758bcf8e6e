"""Numbers of the decode engine in NumPy: bytes for each row, 4 bits by group, bytes by token.

This is the definition that kernels are tested against.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = [
    *("Bytes", "Floats", "Ints", "Nibbles", "RowBytes"),
    *("group_nibbles", "row_bytes", "token_bytes", "wide_scale"),
]

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.int8]
Ints = npt.NDArray[np.int64]
_BINS = 512
_SAMPLE = 1 << 20  # weights that the levels are fitted to, about


@dataclass(frozen=True, kw_only=True, eq=False)
class RowBytes:
    """A matrix as bytes with one scale for each row.

    Attributes:
        values: (N, K) int8.
        scale: (N,) float32; a weight is about value x scale.
    """

    values: Bytes
    scale: Floats

    def floats(self) -> Floats:
        """The matrix (N, K) that is meant."""
        return self.values.astype(np.float32) * self.scale[:, None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Nibbles:
    """A matrix as 4-bit codes, each a place in a table of 16 bytes, with a scale for each group.

    Attributes:
        codes: (N, K) uint8, 0 to 15.
        mask: (N, K) bool; where it is not set the weight is 0.
        levels: (16,) int8, rising.
        scale: (N, K / group) uint16; see `wide_scale`.
        group: Inputs that share a scale.
    """

    codes: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_]
    levels: Bytes
    scale: npt.NDArray[np.uint16]
    group: int

    def integers(self) -> Bytes:
        """(N, K) int8: the level of each weight, 0 where the mask is not set."""
        return np.where(self.mask, self.levels[self.codes], 0).astype(np.int8)

    def floats(self) -> Floats:
        """The matrix (N, K) that is meant."""
        wide = np.repeat(wide_scale(self.scale), self.group, axis=1)[:, : self.codes.shape[1]]
        return self.integers().astype(np.float32) * wide


def row_bytes(weight: Floats) -> RowBytes:
    """Round to 8 bits, symmetric, one scale for each output.

    Args:
        weight: (N, K), finite.
    """
    most = np.abs(weight).max(axis=1, initial=0.0)
    scale = np.where(most > 0, most / 127, 1).astype(np.float32)
    values = np.rint(weight / scale[:, None]).clip(-127, 127).astype(np.int8)
    return RowBytes(values=values, scale=scale)


def token_bytes(x: Floats) -> tuple[npt.NDArray[np.uint8], Floats]:
    """Activations (T, K) as bytes with 128 for 0, and a scale (T,) for each token.

    The largest magnitude of a token becomes 127.
    """
    most = np.abs(x).max(axis=1, initial=0.0).astype(np.float32)
    most = np.where(most > 0, most, np.float32(1))
    inverse = (np.float32(127) / most).astype(np.float32)
    whole = np.rint((x * inverse[:, None]).astype(np.float32))
    return (whole + 128).astype(np.uint8), (most * np.float32(1 / 127)).astype(np.float32)


def wide_scale(narrow: npt.NDArray[np.uint16]) -> Floats:
    """The float32 whose upper 16 bits, and lower ones, are these.

    A kernel makes it with one broadcast of 16 bits.
    """
    wide = narrow.astype(np.uint32)
    return ((wide << np.uint32(16)) | wide).view(np.float32)


def _narrow_scale(scale: Floats) -> npt.NDArray[np.uint16]:
    """The nearest of `wide_scale`'s numbers, for scales of 0 and more."""
    below = (np.ascontiguousarray(scale).view(np.uint32) >> 16).astype(np.int64)
    tries = np.stack([(below + step).clip(0, 0x7F00) for step in (-1, 0, 1)]).astype(np.uint16)
    best = np.abs(wide_scale(tries) - scale).argmin(axis=0)
    nearest: npt.NDArray[np.uint16] = np.take_along_axis(tries, best[None], axis=0)[0]
    return nearest


def group_nibbles(weight: Floats, *, group: int = 64, masked: bool = True) -> Nibbles:
    """Round to 16 levels that are fitted to the matrix (Lloyd 1982), one scale for each group.

    Args:
        weight: (N, K), finite.
        group: Inputs with one scale, 32 or 64.
        masked: Whether weights of 0 are left out, so that no level is needed for them.
    """
    n, k = weight.shape
    padded = np.pad(weight, ((0, 0), (0, -k % group)))
    mask = padded != 0 if masked else np.ones(padded.shape, bool)
    cut = padded.reshape(n, -1, group)
    most = np.abs(cut).max(axis=2)
    safe = np.where(most > 0, most, 1).astype(np.float32)
    shares = (cut / safe[..., None]).reshape(n, -1)
    weights = np.repeat(most**2, group, axis=1)
    every = max(mask.size // _SAMPLE, 1)
    rows = slice(None, None, every)
    levels = _fitted_levels(shares[rows][mask[rows]], weights[rows][mask[rows]])
    if not masked:  # a weight of 0 stays 0
        levels[np.abs(levels.astype(int)).argmin()] = 0
    scale = (safe / 127).astype(np.float32)
    for _ in range(2):  # codes for the scales, then the scales of least squares for the codes
        codes = _nearest(padded, np.repeat(scale, group, axis=1), levels)
        picked = np.where(mask, levels[codes], 0).astype(np.float32).reshape(cut.shape)
        square = (picked**2).sum(axis=2)
        fitted = (picked * cut).sum(axis=2) / np.where(square > 0, square, 1)
        scale = np.where(fitted > 0, fitted, scale).astype(np.float32)
    narrow = _narrow_scale(scale)
    codes = _nearest(padded, np.repeat(wide_scale(narrow), group, axis=1), levels)
    return Nibbles(codes=codes[:, :k], mask=mask[:, :k], levels=levels, scale=narrow, group=group)


def _nearest(weight: Floats, scale: Floats, levels: Bytes) -> npt.NDArray[np.uint8]:
    """Codes of the levels nearest to the weights, first rounded to 1 / 127 of their group."""
    steps = np.arange(-127, 128)
    nearest = np.abs(steps[:, None] - levels.astype(int)).argmin(axis=1).astype(np.uint8)
    shares = weight / np.where(scale > 0, scale, 1)
    found: npt.NDArray[np.uint8] = nearest[np.rint(shares).clip(-127, 127).astype(np.int16) + 127]
    return found


def _fitted_levels(shares: Floats, weights: Floats) -> Bytes:
    """16 rising levels of least squared error for values from -1 to 1, as bytes."""
    counts, edges = np.histogram(shares, bins=_BINS, range=(-1, 1), weights=weights)
    middles = (edges[1:] + edges[:-1]) / 2
    levels = np.linspace(-1, 1, 16)
    for _ in range(40):
        nearest = np.searchsorted((levels[1:] + levels[:-1]) / 2, middles)
        total = np.bincount(nearest, counts, 16)
        moved = np.bincount(nearest, counts * middles, 16)
        levels = np.where(total > 0, moved / np.where(total > 0, total, 1), levels)
    return np.sort(np.rint(levels * 127)).astype(np.int8)
