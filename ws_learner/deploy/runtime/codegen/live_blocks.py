"""Which blocks of a matrix hold a nonzero weight, for every block shape, from one pass over it.

The pass makes one bit of each weight. Rows of blocks are then made by OR of rows of bits, and
blocks of several inputs by OR of neighbouring bits, so that larger shapes cost next to nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["LiveBlocks"]

_ROWS = 16  # the matrix is padded to a multiple of so many outputs
_FOLDS = {1: 0xFF, 2: 0x55, 4: 0x11, 8: 0x01}  # inputs of a block: the bits that stand for blocks
Bits = npt.NDArray[np.uint8]


class LiveBlocks:
    """The live blocks of an (N, K) matrix, which must not change."""

    def __init__(self, weight: npt.NDArray[np.generic]) -> None:
        """Read the matrix once."""
        self.shape: tuple[int, int] = (weight.shape[0], weight.shape[1])
        n, k = self.shape
        bits = np.zeros((n + -n % _ROWS, -(-k // 8)), np.uint8)
        step = max(1, (1 << 20) // max(k, 1))  # a mask of all weights would leave the caches
        for first in range(0, n, step):
            rows = weight[first : first + step]
            bits[first : first + len(rows)] = np.packbits(rows != 0, axis=1, bitorder="little")
        self._bits: dict[tuple[int, int], Bits] = {(1, 1): bits}
        self.nonzero = int(np.bitwise_count(bits).sum(dtype=np.int64))

    @property
    def density(self) -> float:
        """Share of nonzero weights."""
        return self.nonzero / max(self.shape[0] * self.shape[1], 1)

    def grid(self, rows: int, inputs: int) -> npt.NDArray[np.bool_]:
        """(block rows, block columns) of the padded matrix: which blocks hold anything."""
        along = -(-self.shape[1] // inputs)
        if inputs not in _FOLDS:
            each = np.unpackbits(self._folded(rows, 1), axis=1, bitorder="little")
            whole = np.pad(each[:, : self.shape[1]], ((0, 0), (0, -self.shape[1] % inputs)))
            live: npt.NDArray[np.bool_] = np.zeros((len(whole), along), np.bool_)
            np.any(whole.reshape(len(whole), along, inputs), axis=2, out=live)
            return live
        each = np.unpackbits(self._folded(rows, inputs), axis=1, bitorder="little")
        return np.ascontiguousarray(each[:, ::inputs][:, :along]).view(np.bool_)

    def fill(self, rows: int, inputs: int, *, padding: bool = True) -> float:
        """Share of nonzero weights among those that blocks of this shape would store; 1 if none.

        Zeros that are stored beyond the matrix count only with `padding`.
        """
        stored = self._stored(rows, inputs, padding=padding)
        return self.nonzero / stored if stored else 1.0

    def _stored(self, rows: int, inputs: int, *, padding: bool) -> int:
        n, k = self.shape
        down, along = n % rows, k % inputs
        if padding or not (down or along):
            return self._count(rows, inputs) * rows * inputs
        live = self.grid(rows, inputs)
        high, wide = np.full(len(live), rows), np.full(live.shape[1], inputs)
        high[n // rows :], wide[k // inputs :] = 0, 0
        if down:
            high[n // rows] = down
        if along:
            wide[k // inputs] = along
        return int(high @ live @ wide)

    def _count(self, rows: int, inputs: int) -> int:
        if inputs not in _FOLDS:
            return int(np.count_nonzero(self.grid(rows, inputs)))
        return int(np.bitwise_count(self._folded(rows, inputs)).sum(dtype=np.int64))

    def _folded(self, rows: int, inputs: int) -> Bits:
        """A bit for each block, at the place of its first input; the others are 0."""
        key = rows, inputs
        if key not in self._bits:
            if inputs > 1:
                bits = self._folded(rows, 1).copy()
                shift = 1
                while shift < inputs:
                    bits |= bits >> shift
                    shift *= 2
                bits &= _FOLDS[inputs]
            elif rows % 2 == 0:
                half = self._folded(rows // 2, 1)
                bits = half[::2] | half[1::2]
            else:
                single = self._bits[1, 1]
                bits = np.bitwise_or.reduce(single.reshape(-1, rows, single.shape[1]), axis=1)
            self._bits[key] = bits
        return self._bits[key]
