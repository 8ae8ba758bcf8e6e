"""The calls of a network's step, in order."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from ws_learner.deploy.decode.attention import (
    ATTENTION_SLOTS,
    KEYS,
    AttentionSpec,
    append_source,
    attention_source,
)
from ws_learner.deploy.decode.functions import Call, Kernel, Place, matvec_calls
from ws_learner.deploy.decode.isas import DECODE_ISAS, PORTABLE, compile_kernel
from ws_learner.deploy.decode.layout import Layout, cosines_and_sines
from ws_learner.deploy.decode.network import Network, padded
from ws_learner.deploy.decode.packing import CHUNK, HEAD, ROWS
from ws_learner.deploy.decode.program import Phase
from ws_learner.deploy.decode.sampling_kernel import draw_source
from ws_learner.deploy.decode.token_kernels import SLOTS, token_source

__all__ = ["Builder", "draw_kernel", "float_bits", "token_kernel"]

Raw = npt.NDArray[np.uint8]


@functools.cache
def token_kernel(name: str, isa: str, bytes_: bool) -> Kernel:
    """See `token_kernels`."""
    return compile_kernel(token_source(name, DECODE_ISAS[isa].lanes, bytes_=bytes_), isa)


@functools.cache
def draw_kernel(isa: str) -> Kernel:
    """See `sampling_kernel`."""
    return compile_kernel(draw_source(DECODE_ISAS[isa].lanes), isa)


@functools.cache
def _attention_kernels(spec: AttentionSpec, isa: str) -> tuple[Kernel, Kernel]:
    return compile_kernel(append_source(spec), isa), compile_kernel(attention_source(spec), isa)


def float_bits(value: float) -> int:
    """A float32's bits as a number."""
    return int(np.float32(value).view(np.uint32))


class Builder:
    """Makes the calls of a network's step on states of one layout."""

    def __init__(
        self, network: Network, streams: dict[str, Raw], *, isa: str, room: int, threads: int = 1
    ) -> None:
        """`streams` are the matrices' bytes as `stored`; `room` is a multiple of 16."""
        assert room % KEYS == 0
        self._half = network.dtype != "fp32" and isa != PORTABLE  # it has no float16
        self.network, self.layout = network, Layout.of(network, room, threads, half=self._half)
        self._streams, self._isa, self._room, self._threads = streams, isa, room, threads
        self._bytes = network.dtype != "fp32"
        self._learned = network.architecture == "gpt2"
        self._turns = cosines_and_sines(network, room)

    def body(self, tokens: int) -> list[Phase]:
        """Embedding and blocks."""
        calls: list[Phase] = [(self._embed(),)]
        if self._learned:
            calls.append((self._place(),))
        for i in range(self.network.sizes.blocks):
            calls += self._block(i, tokens)
        return calls

    def head(self) -> list[Phase]:
        """Last norm, logits of the last token, and the largest."""
        name = "head" if "head" in self.network.matrices else "embedding"
        at = self.layout.logits.at
        largest = {"x": at, "size": self.network.sizes.vocabulary}
        return [
            (self._norm("last", last=True),),
            self._product(name, 1, self.layout.inputs, self.layout.logits),
            (self._call("argmax", largest, bytes_=False),),
        ]

    def _block(self, i: int, tokens: int) -> list[Phase]:
        at, sizes = self.layout, self.network.sizes
        inside, inner = padded(sizes.heads * sizes.depth), padded(sizes.inner)
        mixed: list[Phase] = [(self._rows("round", at.mixed, inside),)] if self._bytes else []
        source = at.inputs if self._bytes else at.mixed
        up, activation = ("up", "gelu") if self._learned else ("gate_up", "silu")
        return [
            (self._norm(f"{i}.attention"),),
            self._product(f"{i}.qkv", tokens, at.inputs, at.outputs),
            *self._attention(i),
            *mixed,
            self._product(f"{i}.o", tokens, source, at.hidden, added=True),
            (self._norm(f"{i}.feed_forward"),),
            self._product(f"{i}.{up}", tokens, at.inputs, at.outputs),
            (self._rows(activation, at.outputs, inner),),
            self._product(f"{i}.down", tokens, at.inputs, at.hidden, added=True),
        ]

    def _product(self, name: str, tokens: int, x: Place, y: Place, *, added: bool = False) -> Phase:
        return matvec_calls(
            self.network.matrices[name],
            self._streams[name],
            threads=self._threads,
            isa=self._isa,
            tokens=tokens,
            x=x,
            y=y,
            added=added,
        )

    def _call(
        self,
        name: str,
        values: dict[str, int],
        *,
        bytes_: bool,
        held: tuple[npt.NDArray[np.generic], ...] = (),
    ) -> Call:
        table = np.array([values[slot] for slot in SLOTS[name]], np.int64)
        return Call(kernel=token_kernel(name, self._isa, bytes_), table=table, held=held)

    def _embed(self) -> Call:
        packed, stream = self.network.matrices["embedding"], self._streams["embedding"]
        y, width = self.layout.hidden, padded(self.network.sizes.width)
        each = HEAD + ROWS * width * (1 if self._bytes else 4)
        values = {"rows": stream.ctypes.data, "width": width, "bytes": each}
        assert packed.blocks * each == len(packed.stream)
        assert width % CHUNK == 0
        return self._call(
            "embed", values | {"y": y.at, "y_bytes": y.bytes}, bytes_=self._bytes, held=(stream,)
        )

    def _place(self) -> Call:
        sizes, y = self.network.sizes, self.layout.hidden
        rows = self.network.positions.reshape(sizes.positions, sizes.width)
        rows = np.pad(rows, ((0, 0), (0, -sizes.width % CHUNK)))
        values = {"rows": rows.ctypes.data, "width": padded(sizes.width)}
        values |= {"y": y.at, "y_bytes": y.bytes}
        return self._call("place", values, bytes_=False, held=(rows,))

    def _rows(self, name: str, x: Place, width: int) -> Call:
        y = self.layout.inputs
        values = {"x": x.at, "x_bytes": x.bytes, "y": y.at, "y_bytes": y.bytes, "scale": y.scale}
        return self._call(name, values | {"width": width}, bytes_=self._bytes)

    def _norm(self, name: str, *, last: bool = False) -> Call:
        x, y, size = self.layout.hidden, self.layout.inputs, self.network.sizes.width
        weight = np.pad(self.network.norms[name], (0, -size % CHUNK))
        values = {
            **{"x": x.at, "x_bytes": x.bytes, "y": y.at, "y_bytes": y.bytes, "scale": y.scale},
            **{"size": size, "width": padded(size), "weight": weight.ctypes.data},
            **{"eps": float_bits(self.network.sizes.epsilon), "last": int(last)},
        }
        if not self._learned:
            return self._call("norm", values, bytes_=self._bytes, held=(weight,))
        bias = np.pad(self.network.norms[f"{name}.bias"], (0, -size % CHUNK))
        values["bias"] = bias.ctypes.data
        return self._call("layer_norm", values, bytes_=self._bytes, held=(weight, bias))

    def _attention(self, i: int) -> list[Phase]:
        at, sizes = self.layout, self.network.sizes
        cosines, sines = self._turns
        values = {
            **{"x": at.outputs.at, "x_bytes": at.outputs.bytes},
            **{"y": at.mixed.at, "y_bytes": at.mixed.bytes},
            **{"keys": at.keys + i * at.cache, "values": at.values + i * at.cache},
            **{"scores": at.scores, "room": self._room, "scale": float_bits(sizes.depth**-0.5)},
            **{"cosines": cosines.ctypes.data, "sines": sines.ctypes.data},
        }
        spec = AttentionSpec(
            lanes=DECODE_ISAS[self._isa].lanes,
            depth=sizes.depth,
            heads=sizes.heads,
            groups=sizes.groups,
            half=self._half,
            rotary=not self._learned,
        )
        append, attend = _attention_kernels(spec, self._isa)

        def call(kernel: Kernel, number: int, first: int, last: int) -> Call:
            own = {"first": first, "last": last}
            own["scores"] = at.scores + number * 4 * self._room * spec.each
            table = np.array([(values | own)[slot] for slot in ATTENTION_SLOTS], np.int64)
            return Call(kernel=kernel, table=table, held=(cosines, sines))

        count = min(self._threads, sizes.groups)
        edges = [sizes.groups * n // count for n in range(count + 1)]
        parts = tuple(call(attend, n, edges[n], edges[n + 1]) for n in range(count))
        return [(call(append, 0, 0, sizes.groups),), parts]
