"""A linear layer of PyTorch by the decode kernels, for networks that have no native step."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ws_learner.deploy.decode.functions import Call, Place, matvec_calls, stored
from ws_learner.deploy.decode.layout import BATCH
from ws_learner.deploy.decode.network import padded
from ws_learner.deploy.decode.opened import CONTROL
from ws_learner.deploy.decode.packing import Packed
from ws_learner.deploy.decode.program import Phase, Program
from ws_learner.deploy.decode.step import token_kernel
from ws_learner.deploy.decode.token_kernels import SLOTS
from ws_learner.deploy.runtime.codegen.block_format import aligned

__all__ = ["DecodeLinear"]

_SCALES = 8 * len(CONTROL)
_COUNT = CONTROL.index("count")
Raw = npt.NDArray[np.uint8]


class DecodeLinear(nn.Module):
    """y = x W' + b with packed weights; activations are bytes with a scale for each token.

    It has no gradient and no weights as parameters. Threads may use it at once.
    """

    def __init__(self, packed: Packed, *, isa: str, threads: int = 1) -> None:
        """`packed` as `packing` makes it; `isa` is a key of `DECODE_ISAS`."""
        super().__init__()
        self.packed = packed
        width, outputs = padded(packed.inputs), 4 * packed.blocks
        bytes_ = packed.format.values != "f32"
        raw = Place(at=_SCALES + 64, bytes=4 * width)
        end = raw.at + BATCH * raw.bytes
        x = Place(at=end, bytes=width, scale=_SCALES) if bytes_ else raw
        self._raw, self._width = raw, width
        self._y = Place(at=end + BATCH * width, bytes=4 * outputs)
        self._size = self._y.at + BATCH * self._y.bytes
        stream = stored(packed.stream)
        rounded = [(_rounded(raw, x, width, isa),)] if bytes_ else []
        self._programs = {
            count: Program([*rounded, self._parts(stream, isa, threads, count, x)], threads=threads)
            for count in (1, BATCH)
        }

    def _parts(
        self, stream: npt.NDArray[np.uint8], isa: str, threads: int, tokens: int, x: Place
    ) -> Phase:
        return matvec_calls(
            self.packed, stream, threads=threads, isa=isa, tokens=tokens, x=x, y=self._y
        )

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs), float32."""
        inputs, outputs = self.packed.inputs, self.packed.outputs
        rows = x.detach().reshape(-1, inputs).float().numpy()
        memory, found = aligned(self._size), np.empty((len(rows), outputs), np.float32)
        control = memory[: 8 * len(CONTROL)].view(np.int64)
        given = memory[self._raw.at : self._raw.at + BATCH * self._raw.bytes].view(np.float32)
        given = given.reshape(BATCH, self._width)
        taken = memory[self._y.at : self._size].view(np.float32).reshape(BATCH, -1)
        for first in range(0, len(rows), BATCH):
            part = rows[first : first + BATCH]
            control[_COUNT] = len(part)
            given[: len(part), :inputs] = part
            self._programs[1 if len(part) == 1 else BATCH].run(int(memory.ctypes.data))
            found[first : first + len(part)] = taken[: len(part), :outputs]
        return torch.from_numpy(found).reshape(*x.shape[:-1], outputs)

    def extra_repr(self) -> str:
        """Sizes and format, in PyTorch's description of a network."""
        form = self.packed.format
        kind = f"{form.values}{', masks' if form.masked else ''}"
        return f"in_features={self.packed.inputs}, out_features={self.packed.outputs}, {kind}"


def _rounded(x: Place, y: Place, width: int, isa: str) -> Call:
    values = {"x": x.at, "x_bytes": x.bytes, "y": y.at, "y_bytes": y.bytes, "scale": y.scale}
    table = np.array([(values | {"width": width})[n] for n in SLOTS["round"]], np.int64)
    return Call(kernel=token_kernel("round", isa, True), table=table)
