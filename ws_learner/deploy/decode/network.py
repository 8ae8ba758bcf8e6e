"""A network as the decode engine runs it: sizes, norms and packed matrices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np

from ws_learner.core import UserError
from ws_learner.deploy.decode.numbers import Floats
from ws_learner.deploy.decode.packing import CHUNK, Packed, stream_length

__all__ = ["MATRICES", "Network", "Sizes", "check_matrix", "check_network", "padded"]

MATRICES = {
    "llama": ("qkv", "o", "gate_up", "down"),
    "gpt2": ("qkv", "o", "up", "down"),
}
"""Of a block, by architecture."""
_LIMITS = {
    **{"vocabulary": 1 << 24, "width": 1 << 17, "inner": 1 << 19, "blocks": 1000},
    **{"heads": 1024, "groups": 1024, "depth": 1024, "positions": 1 << 24},
}


def padded(size: int) -> int:
    """The next multiple of 64."""
    return -(-size // CHUNK) * CHUNK


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of a network.

    Attributes:
        vocabulary: Tokens.
        width: Of the hidden states.
        inner: Neurons of a feed-forward layer.
        blocks: Number of blocks.
        heads: Of queries.
        groups: Heads of keys and values.
        depth: Of a head.
        positions: Tokens that the network was made for.
        epsilon: Of the norms.
        rotary_scale: Factor of cosines and sines.
    """

    vocabulary: int
    width: int
    inner: int
    blocks: int
    heads: int
    groups: int
    depth: int
    positions: int
    epsilon: float
    rotary_scale: float = 1.0

    def shape(self, name: str) -> tuple[int, int]:
        """(outputs, inputs) of a matrix of `MATRICES`, `embedding` or `head`."""
        inside = self.heads * self.depth
        return {
            "qkv": (inside + 2 * self.groups * self.depth, self.width),
            "o": (self.width, inside),
            "gate_up": (2 * padded(self.inner), self.width),
            "up": (padded(self.inner), self.width),
            "down": (self.width, self.inner),
            "embedding": (self.vocabulary, self.width),
            "head": (self.vocabulary, self.width),
        }[name]


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A network.

    Attributes:
        sizes: Its sizes.
        dtype: `fp32`, `int8` or `int4`.
        matrices: `0.qkv` and so on, `embedding`, and `head` unless it shares the embedding. The
            rows of gate come before those of up, each padded to a multiple of 64.
        norms: `0.attention`, `0.feed_forward` and so on, and `last`: (width,) each. GPT-2 has
            layer norms, with as many biases: `0.attention.bias` and so on.
        frequencies: (depth / 2,) radians a position turns each pair by; none in GPT-2.
        architecture: `llama` or `gpt2`.
        positions: (positions x width,) learned vectors of positions, in GPT-2 only.
        end: Tokens that end a text.
        tokenizer: The tokenizer's file (JSON of the package tokenizers), or nothing.
    """

    sizes: Sizes
    dtype: str
    matrices: Mapping[str, Packed]
    norms: Mapping[str, Floats]
    frequencies: Floats
    architecture: str = "llama"
    positions: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    end: tuple[int, ...] = ()
    tokenizer: str = ""

    @property
    def head(self) -> Packed:
        """The matrix that gives the logits."""
        return self.matrices.get("head", self.matrices["embedding"])

    @property
    def bytes_per_token(self) -> int:
        """Bytes of weights that one token reads."""
        blocks = sum(len(m.stream) for n, m in self.matrices.items() if n[0].isdigit())
        return blocks + len(self.head.stream)


def check_network(network: Network) -> Network:
    """The same network, if all that kernels rely on holds.

    Raises:
        UserError: A size, shape or stream does not fit.
    """
    sizes = network.sizes
    _check_sizes(sizes)
    if network.architecture not in MATRICES:
        raise UserError(f"architecture {network.architecture!r}: there is no native step for it")
    own = MATRICES[network.architecture]
    wanted = {f"{i}.{name}" for i in range(sizes.blocks) for name in own} | {"embedding"}
    if set(network.matrices) - {"head"} != wanted:
        raise UserError("matrices are missing, or there are some too many")
    for name, packed in network.matrices.items():
        check_matrix(name, packed, sizes.shape(name.rpartition(".")[2]))
    if network.matrices["embedding"].format.masked or (
        network.matrices["embedding"].format.values == "i4"
    ):
        raise UserError("embedding: rows of floats or bytes without masks are needed")
    _check_vectors(network)
    return network


def _check_vectors(network: Network) -> None:
    sizes, learned = network.sizes, network.architecture == "gpt2"
    norms = {f"{i}.{n}" for i in range(sizes.blocks) for n in ("attention", "feed_forward")}
    norms |= {"last"}
    norms |= {f"{name}.bias" for name in norms} if learned else set()
    if set(network.norms) != norms or any(
        n.shape != (sizes.width,) or n.dtype != np.float32 for n in network.norms.values()
    ):
        raise UserError("norms are missing or of another width")
    if network.frequencies.shape != (0 if learned else sizes.depth // 2,):
        raise UserError("frequencies: one for each pair of a head is needed (none in GPT-2)")
    if network.positions.shape != (sizes.positions * sizes.width if learned else 0,):
        raise UserError("positions: a vector for each is needed (in GPT-2 only)")


def _check_sizes(sizes: Sizes) -> None:
    for name in (each.name for each in fields(sizes)):
        value = getattr(sizes, name)
        if name in _LIMITS:
            if type(value) is not int or not 0 < value <= _LIMITS[name]:
                raise UserError(f"{name}={value!r}: from 1 to {_LIMITS[name]} is needed")
        elif not isinstance(value, float) or not 0 <= value < 1e6:
            raise UserError(f"{name}={value!r}: a number from 0 on is needed")
    if sizes.depth % 16 or sizes.heads % sizes.groups:
        raise UserError(
            f"heads of depth {sizes.depth} ({sizes.heads} of queries, {sizes.groups} of keys): the "
            "depth must be a multiple of 16, and the heads one of the groups; use PyTorch"
        )


def check_matrix(name: str, packed: Packed, shape: tuple[int, int]) -> None:
    """Follow a stream as a kernel would.

    Raises:
        UserError: It is of another shape, or ends early or late.
    """
    form = packed.format
    if (packed.outputs, packed.inputs) != shape:
        raise UserError(
            f"{name}: is {packed.outputs} x {packed.inputs}, not {shape[0]} x {shape[1]}"
        )
    if (form.values == "i4") != (form.group in (32, 64)) or form.group not in (0, 32, 64):
        raise UserError(f"{name}: groups of {form.group} with values {form.values}")
    if packed.levels.shape != (16,) or packed.stream.dtype != np.uint8:
        raise UserError(f"{name}: levels or stream are of another type")
    if stream_length(packed) != len(packed.stream):
        raise UserError(f"{name}: the stream's length does not fit its masks")
