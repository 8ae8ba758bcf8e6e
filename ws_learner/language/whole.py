"""A network with all of its blocks in memory at once, for training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor

from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.walk import PrunedBlocks

__all__ = ["whole_network"]


@contextmanager
def whole_network(network: BlockNetwork, changed: PrunedBlocks | None = None) -> Iterator[Any]:
    """The network of transformers with its weights in float32, none of which requires a gradient.

    Args:
        network: Its blocks have weights inside only.
        changed: Tensors that take the place of the folder's.
    """
    with ExitStack() as filled:
        filled.enter_context(network.rest())
        for number in range(len(network)):
            own: Mapping[str, Tensor] = {} if changed is None else changed.read(number)
            filled.enter_context(network.block(number, own))
        yield network.model
