"""How the network calls its blocks: arguments are recorded, so that a block can run alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.language.blocks import BlockNetwork

__all__ = ["BlockCall", "embed", "logits_of", "run_block"]

_HIDDEN = "hidden_states"


@dataclass(frozen=True)
class BlockCall:
    """Arguments of a block besides the hidden states, the same for all windows of one length.

    Attributes:
        positional: After the hidden states.
        keywords: By name.
        by_name: Whether the hidden states have a name, too.
    """

    positional: tuple[Any, ...]
    keywords: dict[str, Any]
    by_name: bool


class _StopError(Exception):
    """Ends a forward pass at the first block."""


def embed(network: BlockNetwork, windows: Tensor) -> tuple[Tensor, list[BlockCall]]:
    """What the first block gets, and how each block is called.

    Args:
        network: The network.
        windows: (N, T) token numbers.

    Returns:
        (N, T, width) hidden states, and a call for each block.
    """
    calls: list[BlockCall] = []
    with torch.no_grad(), network.rest() as model:
        first = [_first_inputs(network, model, window) for window in windows]
        hidden = torch.cat([inputs for inputs, _ in first])
        with network.block(0) as block:
            network.returns_tuple = isinstance(_raw(block, hidden[:1], first[0][1]), tuple)

        def record(number: int, inputs: Tensor, call: BlockCall) -> Any:
            calls.append(call)
            return (inputs,) if network.returns_tuple else inputs

        with _replaced(network.blocks, record):
            model(input_ids=windows[:1], use_cache=False)
    return hidden, calls


def run_block(block: nn.Module, hidden: Tensor, call: BlockCall) -> Tensor:
    """Outputs (1, T, width) of a block for hidden states of one window."""
    found = _raw(block, hidden, call)
    result: Tensor = found[0] if isinstance(found, tuple) else found
    return result


def logits_of(network: BlockNetwork, windows: Tensor, hidden: Tensor) -> Iterator[Tensor]:
    """Logits (T, pieces) of each window from the last block's outputs.

    Args:
        network: The network.
        windows: (N, T) token numbers.
        hidden: (N, T, width) outputs of the last block.
    """
    last = len(network) - 1
    with torch.no_grad(), network.rest() as model:
        for window, states in zip(windows, hidden, strict=True):

            def passes(
                number: int, inputs: Tensor, call: BlockCall, states: Tensor = states
            ) -> Any:
                found = states[None] if number == last else inputs
                return (found,) if network.returns_tuple else found

            with _replaced(network.blocks, passes):
                yield model(input_ids=window[None], use_cache=False).logits[0]


def _raw(block: nn.Module, hidden: Tensor, call: BlockCall) -> Any:
    if call.by_name:
        return block(*call.positional, **{_HIDDEN: hidden}, **call.keywords)
    return block(hidden, *call.positional, **call.keywords)


def _first_inputs(network: BlockNetwork, model: nn.Module, window: Tensor) -> tuple[Tensor, Any]:
    found: list[tuple[Tensor, BlockCall]] = []

    def stop(number: int, inputs: Tensor, call: BlockCall) -> Tensor:
        found.append((inputs, call))
        raise _StopError

    with _replaced(network.blocks, stop):
        try:
            model(input_ids=window[None], use_cache=False)
        except _StopError:
            return found[0]
    raise RuntimeError(f"{type(model).__name__} does not call its blocks")


@contextmanager
def _replaced(
    blocks: Sequence[Any] | nn.ModuleList, work: Callable[[int, Tensor, BlockCall], Any]
) -> Iterator[None]:
    """Inside, a call of a block calls `work` instead of the block's own forward."""

    def forward_of(number: int) -> Callable[..., Any]:
        def forward(*given: Any, **named: Any) -> Any:
            if given:
                return work(number, given[0], BlockCall(given[1:], named, False))
            hidden = named.pop(_HIDDEN)
            return work(number, hidden, BlockCall((), named, True))

        return forward

    for number, block in enumerate(blocks):
        block.forward = forward_of(number)
    try:
        yield
    finally:
        for block in blocks:
            del block.__dict__["forward"]
