"""The reader of IDX files against NumPy, and what it refuses."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from benchmarks.digit_recogniser import idx_array


def test_idx_files_are_read_row_by_row() -> None:
    values = np.random.default_rng(0).integers(0, 256, (3, 5, 2), dtype=np.uint8)
    stored = struct.pack(">HBB3I", 0, 8, 3, *values.shape) + values.tobytes()
    assert np.array_equal(idx_array(stored), values)


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (struct.pack(">HBBI", 0, 13, 1, 1) + b"\0\0\0\0", "begins with 00000d01"),
        (struct.pack(">HBBI", 0, 8, 1, 3) + b"\1\2", "2 values for sides"),
    ],
)
def test_other_files_are_refused(stored: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        idx_array(stored)
