"""Checks of prompts, contexts and threads, the same for every engine."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ws_learner.core import UserError

__all__ = ["check_context", "check_prompt", "check_threads"]


def check_context(context: int | None, most: int) -> int:
    """Tokens that a text may have.

    Raises:
        UserError: The network has fewer positions.
    """
    found = most if context is None else context
    if not 1 <= found <= most:
        raise UserError(f"context={context}: from 1 to {most} tokens, as the network has them")
    return found


def check_prompt(
    ids: Sequence[int], vocabulary: int, position: int, room: int, positions: int
) -> None:
    """Whether tokens can be appended to a text.

    Args:
        ids: The tokens.
        vocabulary: Tokens of the network.
        position: Tokens that are there.
        room: Most tokens of the text.
        positions: Most tokens of the network.

    Raises:
        UserError: There are none, one is no token of the network, or they do not fit.
    """
    if not len(ids):
        raise UserError(
            "the prompt has no tokens: give at least one; to go on from a state, give the last "
            "token that came"
        )
    bad = next((i for i in ids if not 0 <= i < vocabulary), None)
    if bad is not None:
        raise UserError(
            f"token {bad}: the network has tokens 0 to {vocabulary - 1}; use its own tokenizer"
        )
    if position + len(ids) > room:
        raise UserError(
            f"{position} tokens and {len(ids)} more do not fit in a context of {room}; give a "
            "shorter prompt, or a larger `context` where the network has it (up to "
            f"{positions})"
        )


def check_threads(threads: int) -> None:
    """Whether so many threads can share the work.

    Raises:
        UserError: Their number is not from 1 to that of processors.
    """
    have = os.cpu_count() or 1
    if not isinstance(threads, int) or not 1 <= threads <= have:
        raise UserError(
            f"threads={threads!r}: give 1 to {have}, as this machine has processors; threads wait "
            "for each other many times a token"
        )
