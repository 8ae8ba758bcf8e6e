"""Tables of constants that kernels without an instruction for it expand masks with."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from ws_learner.deploy.runtime.codegen.block_format import aligned

__all__ = ["byte_masks", "lane_places"]


@functools.cache
def byte_masks() -> npt.NDArray[np.uint8]:
    """(256 x 8): of each 8 bits, 255 where a bit is set: the mask that `pdep` deposits bytes by."""
    table = aligned(256 * 8)
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    table[:] = 255 * bits.reshape(-1)
    return table


@functools.cache
def lane_places() -> npt.NDArray[np.uint8]:
    """(256 x 8): of each 8 bits, which packed value goes to a lane; 255 where there is none."""
    table = aligned(256 * 8)
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    before = bits.cumsum(axis=1) - bits
    table[:] = np.where(bits > 0, before, 255).astype(np.uint8).reshape(-1)
    return table
