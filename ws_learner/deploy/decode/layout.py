"""Where everything lies in a state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ws_learner.deploy.decode.functions import Place
from ws_learner.deploy.decode.network import Network, padded
from ws_learner.deploy.decode.opened import CONTROL

__all__ = ["BATCH", "Layout", "cosines_and_sines"]

BATCH = 4  # tokens that share a pass over the weights


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where everything lies in a state.

    Attributes:
        hidden: Hidden states.
        inputs: A product's inputs: bytes with their scales, or floats.
        outputs: What a product gives.
        mixed: Attention's output.
        scores: Of the heads of a group, for each thread.
        logits: Of the last token.
        weights: Of tokens, for sampling.
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
    weights: Place
    keys: int
    values: int
    cache: int
    size: int

    @staticmethod
    def of(network: Network, room: int, threads: int = 1, *, half: bool) -> Layout:
        """The layout for a cache of `room` positions; `half`: of float16."""
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
        scores, at = at, at + threads * 4 * room * (s.heads // s.groups)
        row = 4 * padded(s.vocabulary)
        logits, weights, at = Place(at=at, bytes=row), Place(at=at + row, bytes=row), at + 2 * row
        cache = s.groups * room * s.depth * (2 if half else 4)
        keys, values = at, at + s.blocks * cache
        size = values + s.blocks * cache
        return Layout(
            **places,
            scores=scores,
            logits=logits,
            weights=weights,
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
