"""One native call for each token: the engine, and the state that holds a text's cache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ws_learner.core import UserError
from ws_learner.deploy.decode.attention import KEYS
from ws_learner.deploy.decode.functions import stored
from ws_learner.deploy.decode.isas import decode_isa
from ws_learner.deploy.decode.network import Network
from ws_learner.deploy.decode.numbers import Floats
from ws_learner.deploy.decode.program import BATCH, Builder, Program
from ws_learner.deploy.decode.token_kernels import CONTROL
from ws_learner.deploy.runtime.codegen.block_format import aligned

__all__ = ["DecodeState", "Engine"]

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
        context: Most tokens of a text.
        isa: Instruction set.
    """

    def __init__(
        self, network: Network, *, context: int | None = None, isa: str | None = None
    ) -> None:
        """Compile the kernels and lay the weights out.

        Args:
            network: A checked network.
            context: Most tokens of a text, up to what the network was made for (default: that).
            isa: A key of `DECODE_ISAS`; the best by default.

        Raises:
            UserError: `context` is out of range.
            RuntimeError: This processor has no such instruction set, or llvmlite is missing.
        """
        most = network.sizes.positions
        self.context = most if context is None else context
        if not 1 <= self.context <= most:
            raise UserError(f"context={context}: from 1 to {most} tokens, as the network has them")
        self.network, self.isa = network, decode_isa(isa).name
        streams = {name: stored(packed.stream) for name, packed in network.matrices.items()}
        room = -(-self.context // KEYS) * KEYS
        build = Builder(network, streams, isa=self.isa, room=room)
        self._layout, head = build.layout, build.head()
        one, many = build.body(1), build.body(BATCH)
        self._programs = {
            (False, True): Program([*one, *head]),
            (False, False): Program(one),
            (True, True): Program([*many, *head]),
            (True, False): Program(many),
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
        if not len(ids):
            raise UserError("the prompt has no tokens: give at least one")
        vocabulary = self.network.sizes.vocabulary
        bad = next((i for i in ids if not 0 <= i < vocabulary), None)
        if bad is not None:
            raise UserError(
                f"token {bad}: the network has tokens 0 to {vocabulary - 1}; use its own tokenizer"
            )
        if state.position + len(ids) > state.room:
            raise UserError(
                f"{state.position} tokens and {len(ids)} more do not fit in a context of "
                f"{state.room}; give a shorter prompt, or a larger `context` where the network "
                f"has it (up to {self.network.sizes.positions})"
            )

    def advance(self, state: DecodeState, token: int) -> None:
        """`feed` of one token that the network gave, without its checks but for room."""
        if state.position >= state.room:
            raise UserError(f"the context of {state.room} tokens is full")
        self._step(state, (token,), last=True)

    def _step(self, state: DecodeState, ids: Sequence[int], *, last: bool) -> None:
        count = len(ids)
        state.control[_COUNT] = count
        state.control[_IDS : _IDS + count] = ids
        self._programs[count > 1, last].run(state.address)
        state.control[_POSITION] += count
