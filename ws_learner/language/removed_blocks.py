"""Which whole blocks a network misses least, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ws_learner.core import load_state_file, save_state_file, say, track
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.calls import BlockCall, embed
from ws_learner.language.predictions import DensePredictions
from ws_learner.language.walk import run_windows

__all__ = ["choose_blocks"]


def choose_blocks(network: BlockNetwork, windows: Tensor, count: int, *, kept: Path) -> list[int]:
    """Numbers of the blocks that are removed, in the order of removal.

    Each time the block goes without which the network's predictions differ least from those of the
    whole network, with the earlier ones gone. One pass over the blocks measures all candidates,
    whose hidden states are held: 4 bytes x blocks x tokens x width.

    Args:
        network: The dense network.
        windows: (N, T) token numbers of the search windows.
        count: Blocks to remove, fewer than there are.
        kept: File for the choice so far; another call goes on from it.

    Raises:
        UserError: The disk is full.
    """
    removed: list[int] = load_state_file(kept)["removed"] if kept.exists() else []
    if len(removed) == count:
        return removed
    embedded, calls = embed(network, windows)
    left = [number for number in range(len(network)) if number not in removed]
    dense = DensePredictions(
        network,
        windows,
        _behind(network, range(len(network)), embedded, calls),
        folder=kept.parent,
    )
    with track("choosing blocks", total=count, done=len(removed)) as progress:
        while len(removed) < count:
            states = _without_each(network, left, embedded, calls)
            costs = [dense.divergence(one) for one in states]
            place = min(range(len(left)), key=lambda place: costs[place])
            say(f"block {left[place]} is removed: {costs[place]:.4f} nats from the whole network")
            removed.append(left.pop(place))
            save_state_file(kept, {"removed": removed})
            progress.advance()
    return removed


def _behind(
    network: BlockNetwork, numbers: Sequence[int], embedded: Tensor, calls: Sequence[BlockCall]
) -> Tensor:
    hidden = embedded.clone()
    for number in numbers:
        with network.block(number) as block:
            run_windows(block, hidden, calls[number])
    return hidden


def _without_each(
    network: BlockNetwork, left: Sequence[int], embedded: Tensor, calls: Sequence[BlockCall]
) -> list[Tensor]:
    """Hidden states (N, T, width) behind all blocks but one, for each of them."""
    hidden, found = embedded.clone(), list[Tensor]()
    for number in left:
        with network.block(number) as block:
            for earlier in found:
                run_windows(block, earlier, calls[number])
            found.append(hidden.clone())
            run_windows(block, hidden, calls[number])
    return found
