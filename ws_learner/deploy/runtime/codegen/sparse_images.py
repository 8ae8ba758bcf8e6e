"""A sparse convolution bound to a direct kernel; see `image_kernel`."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ws_learner.core import UserError
from ws_learner.deploy.runtime.codegen.block_format import Blocks, pack_blocks
from ws_learner.deploy.runtime.codegen.buffers import readable
from ws_learner.deploy.runtime.codegen.cpu import ISAS
from ws_learner.deploy.runtime.codegen.image_plan import ImagePlan, Walk, image_plan
from ws_learner.deploy.runtime.codegen.native_program import (
    BoundRun,
    KernelCall,
    Program,
    address_of,
)
from ws_learner.deploy.runtime.codegen.sparse_kernel import NO_PICKLE
from ws_learner.deploy.runtime.codegen.spec import Spec
from ws_learner.deploy.runtime.quantisation import InputScale

__all__ = ["MOST_IMAGE_INPUTS", "ImageKernel"]

MOST_IMAGE_INPUTS = 65536
"""Taps times channels of a convolution that direct kernels take: they read them in one panel."""
_GROUP, _GROUP_BYTES = 8, 256 * 1024  # images packed together, at most
_WASTE = 1.04  # of vectors computed over those needed: fewer images are packed if that is enough
_KEPT = 16  # image sizes whose tables are kept


@dataclass(frozen=True, kw_only=True, eq=False)
class _Bound:
    """Tables for one size of image; arrays are kept alive with the addresses of them."""

    output: tuple[int, int]
    arrays: tuple[npt.NDArray[Any], ...]
    program: Program


class _Calls(threading.local):
    """What this thread has called: tables, the prepared call, and the output's shape."""

    def __init__(self) -> None:
        self.known: dict[torch.Size, tuple[_Bound, BoundRun, torch.Size]] = {}


class ImageKernel:
    """y = activation(conv(x, W) + b) without the zero blocks of W. Calls are thread-safe."""

    def __init__(
        self,
        spec: Spec,
        weight: npt.NDArray[np.generic],  # (N, taps x C) float32 or int8
        bias: npt.NDArray[np.float32] | None,  # (N,)
        walk: Walk,
        *,
        scales: npt.NDArray[np.float32] | None = None,  # (N,) of an int8 weight
        source: InputScale | None = None,
    ) -> None:
        """Pack the weight and compile the kernel.

        Args:
            spec: The kernel.
            weight: Of the type that `spec` multiplies.
            bias: Added to every output, in output units.
            walk: How the taps walk over the image.
            scales: What one step of each output's weights is worth.
            source: How inputs are quantised.
        """
        from ws_learner.deploy.runtime.codegen.kernels import compiled  # needs llvmlite

        self.spec, self._walk = spec, walk
        self.outputs, inputs = weight.shape
        self._taps = walk.kernel[0] * walk.kernel[1]
        self.channels = inputs // self._taps
        self._planes = -(-self.channels // spec.packed)
        self._function = compiled(spec)
        self._blocks = self._packed(weight)
        correction = np.zeros(self.outputs, np.int32)
        if source is not None:
            sums = weight.sum(axis=1, dtype=np.int64)
            correction = (-source.zero * sums).astype(np.int32)
        full = np.ones(self.outputs, np.float32) if scales is None else scales
        step = full * np.float32(source.scale if source else 1)
        shift = np.zeros(self.outputs, np.float32) if bias is None else bias
        quantisation = (1 / source.scale, source.zero) if source else (1, 0)
        self._terms = (
            np.ascontiguousarray(step, np.float32),
            np.ascontiguousarray(shift, np.float32),
            correction,
            np.array([*quantisation, 1, 0], np.float32),
        )
        self._bound: dict[tuple[int, int], _Bound] = {}
        self._calls = _Calls()

    def _packed(self, weight: npt.NDArray[np.generic]) -> Blocks:
        """Blocks of the weight, with channels up to a multiple of those in a lane."""
        spec = self.spec
        more = self._planes * spec.packed - self.channels
        if more:
            cut = weight.reshape(self.outputs, self._taps, self.channels)
            weight = np.pad(cut, ((0, 0), (0, 0), (0, more))).reshape(self.outputs, -1)
        if weight.shape[1] > MOST_IMAGE_INPUTS:
            raise ValueError(f"direct kernels take {MOST_IMAGE_INPUTS} inputs: {weight.shape[1]}")
        return pack_blocks(
            weight, spec.rows, spec.inputs, packed=spec.packed, panel=MOST_IMAGE_INPUTS
        )

    def images(self, x: Tensor, output: tuple[int, int], *, threads: int = 1) -> Tensor:
        """Map (B, C, H, W) to (B, N, *output).

        Raises:
            RuntimeError: The input is not as the kernel reads it.
        """
        x = x.contiguous()
        readable(
            x, what="sparse kernel", dtype=torch.float32, shape=(None, self.channels, None, None)
        )
        kind = torch.int32 if self.spec.result == "i32" else torch.float32
        y = torch.empty(len(x), self.outputs, *output, dtype=kind, device="cpu")
        if not y.numel():
            return y
        bound = self._of((x.shape[2], x.shape[3]), output)  # held: another thread may drop it
        run = bound.program.prepared(x.data_ptr(), y.data_ptr(), len(x), threads=threads)
        run()
        if isinstance(run, BoundRun) and kind == torch.float32:
            if len(self._calls.known) >= _KEPT:
                self._calls.known.clear()
            self._calls.known[x.shape] = bound, run, y.shape
        return y

    def again(self, x: Tensor) -> Tensor | None:
        """As `images` in one thread, in less time; None unless that was called with such a size.

        Small layers spend most of their time on checks and on the preparation of a call.
        """
        call = self._calls.known.get(x.shape)
        if (
            call is None
            or x.dtype != torch.float32
            or x.device.type != "cpu"
            or x.is_neg()
            or not x.is_contiguous()
        ):
            return None
        _, run, shape = call
        y = torch.empty(shape, dtype=torch.float32, device="cpu")
        run.on(x.data_ptr(), y.data_ptr())
        return y

    def _of(self, size: tuple[int, int], output: tuple[int, int]) -> _Bound:
        """Tables for images of this size."""
        found = self._bound.get(size)
        if found is None:
            found = self._bind(size, output)
            if len(self._bound) >= _KEPT:
                self._bound = {}
            self._bound[size] = found
        return found

    def _bind(self, size: tuple[int, int], output: tuple[int, int]) -> _Bound:
        from ws_learner.deploy.runtime.codegen.image_kernel import IMAGE_SLOTS

        spec, lanes = self.spec, ISAS[self.spec.isa].lanes
        plan = image_plan(self._walk, size, output, lanes)
        image_bytes = -(-4 * self._planes * plan.plane_lanes // 64) * 64
        group = _group(len(plan.starts), spec.vectors, image_bytes)
        vectors = self._vectors(plan, group, image_bytes)
        blocks = self._blocks
        arrays: tuple[npt.NDArray[Any], ...] = (
            *(blocks.values, self._offsets(plan), blocks.pointers, *self._terms),
            *(np.ascontiguousarray(plan.phases), *vectors),
        )
        numbers = [a.ctypes.data for a in arrays]
        numbers += [self.outputs, self.channels, *size, self._planes, len(plan.phases)]
        numbers += [plan.phase_lanes, plan.wide, plan.pitch, *self._walk.stride, group]
        numbers += [image_bytes, len(plan.starts), 4 * output[0] * output[1]]
        assert len(numbers) == len(IMAGE_SLOTS)
        table = np.array(numbers, np.int64)
        # Vectors at the end of an image read and clear beyond it.
        beyond = 4 * (2 * lanes + plan.pitch + lanes)
        call = KernelCall(
            function=address_of(self._function),
            table=table.ctypes.data,
            memory=group * image_bytes + beyond,
            unit=1,
            bytes=4 * self.outputs * output[0] * output[1],
        )
        return _Bound(output=output, arrays=(table, *arrays), program=Program([call]))

    def _offsets(self, plan: ImagePlan) -> npt.NDArray[np.uint32]:
        """(blocks x steps,) bytes from an output's place to each lane that a block multiplies."""
        steps = self.spec.steps
        lane = self._blocks.indices.astype(np.int64)[:, None] * steps + np.arange(steps)
        # A last block may reach past the inputs; a zero weight must not meet a NaN from elsewhere.
        lane = np.minimum(lane.ravel(), self._taps * self._planes - 1)
        tap, plane = np.divmod(lane, self._planes)
        found: npt.NDArray[np.uint32] = (4 * (plane * plan.plane_lanes + plan.taps[tap])).astype(
            np.uint32
        )
        return found

    def _vectors(
        self, plan: ImagePlan, group: int, image_bytes: int
    ) -> tuple[npt.NDArray[Any], ...]:
        """Places, targets, counts, lanes of each vector, and whether tiles of them are full."""
        own, together = len(plan.starts), self.spec.vectors
        image = np.arange(group)[:, None]
        places = (image * image_bytes + 4 * plan.starts).ravel()
        outputs = self.outputs * plan.output[0] * plan.output[1]
        targets = (4 * (image * outputs + plan.first)).ravel()
        counts, lanes = np.tile(plan.counts, group), np.tile(plan.lanes, (group, 1))
        more = -(group * own) % together
        places, targets, counts = (np.pad(a, (0, more)) for a in (places, targets, counts))
        lanes = np.pad(lanes, ((0, more), (0, 0)))
        full = (counts.reshape(-1, together) == lanes.shape[1]).all(axis=1).astype(np.int32)
        return places, targets, counts, np.ascontiguousarray(lanes), full

    def __deepcopy__(self, memo: object) -> ImageKernel:
        """Copies of a network share it."""
        return self

    def __reduce__(self) -> str:
        """Refuse: addresses mean nothing elsewhere."""
        raise UserError(NO_PICKLE)


def _group(vectors: int, together: int, image_bytes: int) -> int:
    """How many images to pack at a time, so that few vectors are computed for nothing."""
    best, least = 1, float("inf")
    for group in range(1, max(1, min(_GROUP, _GROUP_BYTES // max(image_bytes, 1))) + 1):
        waste = -(-group * vectors // together) * together / (group * vectors)
        if waste < least - 0.01:
            best, least = group, waste
        if waste <= _WASTE:
            break
    return best
