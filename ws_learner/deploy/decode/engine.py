"""One native call for each token: the engine, and the state that holds a text's cache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ws_learner.core import AnyPath, UserError
from ws_learner.deploy.decode.attention import KEYS
from ws_learner.deploy.decode.files import write_network
from ws_learner.deploy.decode.functions import stored
from ws_learner.deploy.decode.isas import decode_isa
from ws_learner.deploy.decode.layout import BATCH
from ws_learner.deploy.decode.network import Network
from ws_learner.deploy.decode.numbers import Floats
from ws_learner.deploy.decode.opened import CONTROL
from ws_learner.deploy.decode.program import Program
from ws_learner.deploy.decode.prompts import check_context, check_prompt, check_threads
from ws_learner.deploy.decode.sampling import Sampling
from ws_learner.deploy.decode.step import Builder, draw_kernel, float_bits
from ws_learner.deploy.runtime.codegen.block_format import aligned

__all__ = ["DecodeState", "Engine"]

_COLDEST = 1e-30  # of temperatures: below, quotients of float32 are not finite
_POSITION, _COUNT, _NEXT, _IDS = (CONTROL.index(n) for n in ("position", "count", "next", "ids0"))


class DecodeState:
    """The cache of one text, and the last token's logits. Not to be shared by threads.

    Attributes:
        room: Tokens that it has room for.
    """

    def __init__(self, size: int, logits: int, vocabulary: int, room: int) -> None:
        """An empty cache; see `Engine.state`."""
        self.room = room
        self._parts = (size, logits, vocabulary)
        self.memory = aligned(size)
        self.address = int(self.memory.ctypes.data)
        self.control = self.memory[: 8 * len(CONTROL)].view(np.int64)
        self._logits = self.memory[logits : logits + 4 * vocabulary].view(np.float32)

    @property
    def position(self) -> int:
        """Tokens in the cache."""
        return int(self.control[_POSITION])

    @property
    def best(self) -> int:
        """The token with the largest logit, after the last one."""
        return int(self.control[_NEXT])

    @property
    def logits(self) -> Floats:
        """(vocabulary,) of the last token; the next call overwrites them."""
        return self._logits

    def copy(self) -> DecodeState:
        """A second state, to go on from here in two ways."""
        other = DecodeState(*self._parts, self.room)
        other.memory[:] = self.memory
        return other


class Engine:
    """A network's weights and compiled kernels; states of several threads may use it at once.

    Attributes:
        network: The network.
        vocabulary: Tokens.
        context: Most tokens of a text.
        end: Tokens that end a text.
        isa: Instruction set.
    """

    def __init__(
        self,
        network: Network,
        *,
        context: int | None = None,
        isa: str | None = None,
        threads: int = 1,
    ) -> None:
        """Compile the kernels and lay the weights out.

        Args:
            network: A checked network.
            context: Most tokens of a text, up to what the network was made for (default: that).
            isa: A key of `DECODE_ISAS`; the best by default.
            threads: That share a token's work; outputs do not depend on it.

        Raises:
            UserError: `context` or `threads` is out of range.
            RuntimeError: This processor has no such instruction set, or llvmlite is missing.
        """
        check_threads(threads)
        self.context = check_context(context, network.sizes.positions)
        self.network, self.isa = network, decode_isa(isa).name
        self.vocabulary, self.end = network.sizes.vocabulary, network.end
        streams = {name: stored(packed.stream) for name, packed in network.matrices.items()}
        room = -(-self.context // KEYS) * KEYS
        build = Builder(network, streams, isa=self.isa, room=room, threads=threads)
        self._layout, head = build.layout, build.head()
        one, many = build.body(1), build.body(BATCH)
        self._programs = {
            (False, True): Program([*one, *head], threads=threads),
            (False, False): Program(one, threads=threads),
            (True, True): Program([*many, *head], threads=threads),
            (True, False): Program(many, threads=threads),
        }

    def state(self) -> DecodeState:
        """An empty cache. Its memory is taken as it fills."""
        layout = self._layout
        return DecodeState(
            layout.size, layout.logits.at, self.network.sizes.vocabulary, self.context
        )

    def feed(self, state: DecodeState, ids: Sequence[int]) -> None:
        """Append tokens; the state then has the logits after the last one.

        Raises:
            UserError: There are none, one is no token of the network, or the cache is full.
        """
        self.check(state, ids)
        for first in range(0, len(ids), BATCH):
            part = ids[first : first + BATCH]
            self._step(state, part, last=first + BATCH >= len(ids))

    def check(self, state: DecodeState, ids: Sequence[int]) -> None:
        """See `feed`."""
        most = self.network.sizes.positions
        check_prompt(ids, self.vocabulary, state.position, state.room, most)

    def advance(self, state: DecodeState, token: int) -> None:
        """`feed` of one token that the network gave, without its checks but for room."""
        if state.position >= state.room:
            raise UserError(f"the context of {state.room} tokens is full")
        self._step(state, (token,), last=True)

    def draw(self, state: DecodeState, sampling: Sampling, share: float) -> int:
        """`draw_token` of the state's logits, by a kernel; float32 but for sums."""
        size, layout = self.vocabulary, self._layout
        doubles = np.array([sampling.top_p, share], np.float64).view(np.int64)
        table = np.array(
            [
                *(layout.logits.at, layout.weights.at, size),
                float_bits(max(sampling.temperature, _COLDEST)),
                min(sampling.top_k or size, size),
                *(int(doubles[0]), int(doubles[1]), 0),
            ],
            np.int64,
        )
        table[-1] = table.ctypes.data + 8 * (len(table) - 1)  # the answer goes here
        draw_kernel(self.isa)(table.ctypes.data, state.address)
        return int(table[-1])

    def save(self, path: AnyPath) -> None:
        """Write the network; see `write_network`."""
        write_network(path, self.network)

    def _step(self, state: DecodeState, ids: Sequence[int], *, last: bool) -> None:
        count = len(ids)
        state.control[_COUNT] = count
        state.control[_IDS : _IDS + count] = ids
        self._programs[count > 1, last].run(state.address)
        state.control[_POSITION] += count
