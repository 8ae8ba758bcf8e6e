"""All kernels of one call as a list that a native loop runs."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from ws_learner.deploy.decode.attention import (
    ATTENTION_SLOTS,
    KEYS,
    AttentionSpec,
    append_source,
    attention_source,
)
from ws_learner.deploy.decode.functions import Call, Kernel, Place, matvec_call
from ws_learner.deploy.decode.isas import DECODE_ISAS
from ws_learner.deploy.decode.network import Network, padded
from ws_learner.deploy.decode.packing import CHUNK, HEAD, ROWS
from ws_learner.deploy.decode.token_kernels import CONTROL, SLOTS, token_source
from ws_learner.deploy.runtime.codegen.llvm_emitter import I64, PTR, VOID, Emitter
from ws_learner.deploy.runtime.codegen.native_program import address_of

__all__ = ["BATCH", "Layout", "Program", "cosines_and_sines"]

BATCH = 4  # tokens that share a pass over the weights
_KERNEL = ir.FunctionType(VOID, [PTR, PTR])
Raw = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where everything lies in a state.

    Attributes:
        hidden: Hidden states.
        inputs: A product's inputs: bytes with their scales, or floats.
        outputs: What a product gives.
        mixed: Attention's output.
        scores: Of the heads of a group.
        logits: Of the last token.
        keys: Of the first block; a block's are `cache` bytes behind those of the one before.
        values: Likewise.
        cache: Bytes of a block's keys, or values.
        size: Bytes of all.
    """

    hidden: Place
    inputs: Place
    outputs: Place
    mixed: Place
    scores: int
    logits: Place
    keys: int
    values: int
    cache: int
    size: int

    @staticmethod
    def of(network: Network, room: int) -> Layout:
        """The layout for a cache of `room` positions."""
        s, at = network.sizes, 8 * len(CONTROL)
        inside = s.heads * s.depth
        scales, at = at, at + 64
        widest = max(padded(s.width), padded(s.inner), padded(inside))
        most = max(padded(s.shape("qkv")[0]), 2 * padded(s.inner), padded(s.width))
        places = {}
        for name, each in (
            ("hidden", 4 * padded(s.width)),
            ("inputs", 5 * widest),  # bytes, and behind them the floats they were made from
            ("outputs", 4 * most),
            ("mixed", 4 * padded(inside)),
        ):
            places[name] = Place(at=at, bytes=each, scale=scales)
            at += BATCH * each
        scores, at = at, at + 4 * room * (s.heads // s.groups)
        logits, at = Place(at=at, bytes=4 * padded(s.vocabulary)), at + 4 * padded(s.vocabulary)
        cache = s.groups * room * s.depth * (4 if network.dtype == "fp32" else 2)
        keys, values = at, at + s.blocks * cache
        size = values + s.blocks * cache
        return Layout(
            **places,
            scores=scores,
            logits=logits,
            keys=keys,
            values=values,
            cache=cache,
            size=size,
        )


def cosines_and_sines(network: Network, room: int) -> tuple[npt.NDArray[np.float32], ...]:
    """(positions, depth) each, as transformers' Llama has them."""
    turns = np.arange(room, dtype=np.float32)[:, None] * network.frequencies
    both, scale = np.concatenate([turns, turns], axis=1), np.float32(network.sizes.rotary_scale)
    return (np.cos(both) * scale).astype(np.float32), (np.sin(both) * scale).astype(np.float32)


class Program:
    """A list of kernels; `run` is one native call."""

    def __init__(self, calls: Sequence[Call]) -> None:
        """The calls are kept, and what they hold."""
        self._calls, self._run = list(calls), _driver()
        numbers = [len(calls)]
        for call in calls:
            numbers += [address_of(call.kernel), call.table.ctypes.data]
        self._list = np.array(numbers, np.int64)
        self._address = int(self._list.ctypes.data)

    def run(self, state: int) -> None:
        """Run all kernels on the state at this address."""
        self._run(self._address, state)


@functools.cache
def _driver() -> Kernel:
    from ws_learner.deploy.runtime.codegen.kernels import compile_text

    e = Emitter("kernel", arguments=[PTR, PTR], lanes=1)
    rows, state = e.arguments
    with e.loop(0, e.load(I64, rows)) as i:
        place = e.at(rows, e.add(8, e.mul(i, 16)))
        function = e.builder.inttoptr(e.load(I64, place), _KERNEL.as_pointer())
        e.builder.call(function, [e.builder.inttoptr(e.load(I64, place, 8), PTR), state])
    return compile_text(e.finish(), DECODE_ISAS["avx2"], arguments=2)


@functools.cache
def _token_kernel(name: str, isa: str, bytes_: bool) -> Kernel:
    from ws_learner.deploy.runtime.codegen.kernels import compile_text

    own = DECODE_ISAS[isa]
    return compile_text(token_source(name, own.lanes, bytes_=bytes_), own, arguments=2)


@functools.cache
def _attention_kernels(spec: AttentionSpec, isa: str) -> tuple[Kernel, Kernel]:
    from ws_learner.deploy.runtime.codegen.kernels import compile_text

    sources = append_source(spec), attention_source(spec)
    first, second = (compile_text(text, DECODE_ISAS[isa], arguments=2) for text in sources)
    return first, second


def float_bits(value: float) -> int:
    """A float32's bits as a number."""
    return int(np.float32(value).view(np.uint32))


class Builder:
    """Makes the calls of a network's step on states of one layout."""

    def __init__(self, network: Network, streams: dict[str, Raw], *, isa: str, room: int) -> None:
        """`streams` are the matrices' bytes as `stored`; `room` is a multiple of 16."""
        assert room % KEYS == 0
        self.network, self.layout = network, Layout.of(network, room)
        self._streams, self._isa, self._room = streams, isa, room
        self._bytes = network.dtype != "fp32"
        self._turns = cosines_and_sines(network, room)

    def body(self, tokens: int) -> list[Call]:
        """Embedding and blocks."""
        calls = [self._embed()]
        for i in range(self.network.sizes.blocks):
            calls += self._block(i, tokens)
        return calls

    def head(self) -> list[Call]:
        """Last norm, logits of the last token, and the largest."""
        name = "head" if "head" in self.network.matrices else "embedding"
        at = self.layout.logits.at
        largest = {"x": at, "size": self.network.sizes.vocabulary}
        return [
            self._norm("last", last=True),
            self._product(name, 1, self.layout.inputs, self.layout.logits),
            self._call("argmax", largest, bytes_=False),
        ]

    def _block(self, i: int, tokens: int) -> list[Call]:
        at, sizes = self.layout, self.network.sizes
        inside, inner = padded(sizes.heads * sizes.depth), padded(sizes.inner)
        mixed = [self._rows("round", at.mixed, inside)] if self._bytes else []
        source = at.inputs if self._bytes else at.mixed
        return [
            self._norm(f"{i}.attention"),
            self._product(f"{i}.qkv", tokens, at.inputs, at.outputs),
            *self._attention(i),
            *mixed,
            self._product(f"{i}.o", tokens, source, at.hidden, added=True),
            self._norm(f"{i}.feed_forward"),
            self._product(f"{i}.gate_up", tokens, at.inputs, at.outputs),
            self._rows("silu", at.outputs, inner),
            self._product(f"{i}.down", tokens, at.inputs, at.hidden, added=True),
        ]

    def _product(self, name: str, tokens: int, x: Place, y: Place, *, added: bool = False) -> Call:
        packed, stream = self.network.matrices[name], self._streams[name]
        return matvec_call(packed, stream, isa=self._isa, tokens=tokens, x=x, y=y, added=added)

    def _call(
        self,
        name: str,
        values: dict[str, int],
        *,
        bytes_: bool,
        held: tuple[npt.NDArray[np.generic], ...] = (),
    ) -> Call:
        table = np.array([values[slot] for slot in SLOTS[name]], np.int64)
        return Call(kernel=_token_kernel(name, self._isa, bytes_), table=table, held=held)

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
        return self._call("norm", values, bytes_=self._bytes, held=(weight,))

    def _attention(self, i: int) -> list[Call]:
        at, sizes = self.layout, self.network.sizes
        cosines, sines = self._turns
        values = {
            **{"x": at.outputs.at, "x_bytes": at.outputs.bytes},
            **{"y": at.mixed.at, "y_bytes": at.mixed.bytes},
            **{"keys": at.keys + i * at.cache, "values": at.values + i * at.cache},
            **{"scores": at.scores, "room": self._room, "scale": float_bits(sizes.depth**-0.5)},
            **{"cosines": cosines.ctypes.data, "sines": sines.ctypes.data},
        }
        table = np.array([values[slot] for slot in ATTENTION_SLOTS], np.int64)
        spec = AttentionSpec(
            lanes=DECODE_ISAS[self._isa].lanes,
            depth=sizes.depth,
            heads=sizes.heads,
            groups=sizes.groups,
            half=self._bytes,
        )
        return [
            Call(kernel=kernel, table=table, held=(cosines, sines))
            for kernel in _attention_kernels(spec, self._isa)
        ]
