"""Where a direct convolution finds each tap of each output, for one size of image.

An image is copied once into planes of 32-bit lanes with its padding around it. A tap of an output
is then the lane at the output's place plus the tap's offset, the same for all outputs: nothing is
copied per tap as im2col does. With a stride, rows and columns of each remainder have a plane of
their own ("phases"), in which neighbouring outputs are neighbours again. Zeros right of a row also
serve as those left of the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["PHASE", "ImagePlan", "Walk", "image_plan"]

PHASE = ("base", "top", "bottom", "row", "column")
"""Numbers of a phase: its first lane; its rows that come from the image, from and up to; image row
of its row 0, and image column of its column 0, both possibly outside."""


class Walk(Protocol):
    """How a convolution walks over its input; see `Geometry`."""

    @property
    def kernel(self) -> tuple[int, int]:
        """Taps."""

    @property
    def stride(self) -> tuple[int, int]:
        """Steps between outputs."""

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros at each border."""

    @property
    def dilation(self) -> tuple[int, int]:
        """Steps between taps."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ImagePlan:
    """Lanes are counted from the start of an image's copy, or of a plane.

    Attributes:
        output: Height and width of the output.
        wide: Lanes of a row that are read.
        pitch: Lanes from one row to the next.
        phase_lanes: Lanes of a phase.
        phases: (phases, 5), see `PHASE`.
        taps: (taps,) offset of each in its plane.
        starts: (vectors,) lane of each vector of outputs, tap 0 of plane 0.
        first: (vectors,) the first output of each.
        counts: (vectors,) how many outputs it holds; between them may be lanes of no use.
        lanes: (vectors, lanes) those that hold them, in order.
    """

    output: tuple[int, int]
    wide: int
    pitch: int
    phase_lanes: int
    phases: npt.NDArray[np.int64]
    taps: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int32]
    lanes: npt.NDArray[np.int32]

    @property
    def plane_lanes(self) -> int:
        """Lanes of a plane: all phases of one channel, or of those packed together."""
        return len(self.phases) * self.phase_lanes


def image_plan(
    walk: Walk, image: tuple[int, int], output: tuple[int, int], lanes: int
) -> ImagePlan:
    """Lay out images of height and width `image`.

    Args:
        walk: Of the convolution.
        image: Height and width.
        output: Of the output, at least 1 each.
        lanes: 32-bit values in a vector.
    """
    down, across = (
        [divmod(tap * gap, step) for tap in range(taps)]
        for taps, gap, step in zip(walk.kernel, walk.dilation, walk.stride, strict=True)
    )
    high, wide = (
        size + max(ahead for ahead, _ in taps)
        for size, taps in zip(output, (down, across), strict=True)
    )
    rows = {a: _inside(a, walk, image, high, axis=0) for a in sorted({a for _, a in down})}
    columns = {b: _inside(b, walk, image, wide, axis=1) for b in sorted({b for _, b in across})}
    shared = min(min(left, wide - right) for left, right in columns.values())
    shared = min(shared, wide - output[1])  # every output has a lane of its own
    pitch = wide - shared
    phase_lanes = high * pitch + shared
    number = {(a, b): i for i, (a, b) in enumerate((a, b) for a in rows for b in columns)}
    phases = [
        (number[a, b] * phase_lanes, *rows[a], a - walk.padding[0], b - walk.padding[1])
        for a, b in number
    ]
    taps = [
        number[a, b] * phase_lanes + ahead_down * pitch + ahead_across
        for ahead_down, a in down
        for ahead_across, b in across
    ]
    starts, first, counts, used = _vectors(output, pitch, lanes)
    return ImagePlan(
        output=output,
        wide=wide,
        pitch=pitch,
        phase_lanes=phase_lanes,
        phases=np.array(phases, np.int64),
        taps=np.array(taps, np.int64),
        starts=starts,
        first=first,
        counts=counts,
        lanes=used,
    )


def _inside(
    remainder: int, walk: Walk, image: tuple[int, int], size: int, *, axis: int
) -> tuple[int, int]:
    """Rows or columns of a phase that lie in the image: from, up to; of `size` in all."""
    step, pad = walk.stride[axis], walk.padding[axis]
    begin = min(max(0, -((remainder - pad) // step)), size)
    end = min(max(begin, -((remainder - pad - image[axis]) // step)), size)
    return begin, end


def _vectors(
    output: tuple[int, int], pitch: int, lanes: int
) -> tuple[
    npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.int32]
]:
    """Cover all outputs: each vector begins at the first output that the last one left out."""
    high, wide = output
    places = (np.arange(high)[:, None] * pitch + np.arange(wide)).ravel()
    first: list[int] = []
    at = 0
    while at < len(places):
        first.append(at)
        at = int(np.searchsorted(places, places[at] + lanes))
    begin = np.array(first, np.int64)
    counts = np.diff([*first, len(places)])
    used = np.zeros((len(first), lanes), np.int32)
    for row, (start, count) in enumerate(zip(first, counts, strict=True)):
        used[row, :count] = places[start : start + count] - places[start]
    return places[begin].astype(np.int64), begin, counts.astype(np.int32), used
