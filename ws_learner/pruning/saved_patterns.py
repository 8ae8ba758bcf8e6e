"""Patterns of single layers in a sparsifier's saved state, so that a resumed run has the same."""

from __future__ import annotations

import json

import torch
from torch import Tensor

from ws_learner.core import UserError
from ws_learner.pruning.patterns.pattern import PerLayerPatterns

__all__ = ["pattern_state", "refuse_other_patterns"]


def pattern_state(config: object) -> dict[str, Tensor]:
    """`patterns`: the layers' patterns as JSON, in bytes; nothing if one is for all layers."""
    pattern = getattr(config, "pattern", None)
    if not isinstance(pattern, PerLayerPatterns):
        return {}
    text = json.dumps({name: str(own) for name, own in pattern.parts}).encode()
    return {"patterns": torch.tensor(list(text), dtype=torch.uint8)}


def refuse_other_patterns(config: object, saved: Tensor | None) -> None:
    """Refuse a state whose layers have other patterns.

    Args:
        config: Settings of the method.
        saved: `patterns` of the state; None if there are none.

    Raises:
        UserError: A layer has another pattern.
    """
    ours, theirs = (_parsed(tensor) for tensor in (pattern_state(config).get("patterns"), saved))
    for name in [*theirs, *ours]:
        if (now := ours.get(name, "another")) != (then := theirs.get(name, "another")):
            raise UserError(
                f"the saved state was made with the pattern {then} for {name}, now it is {now}: "
                "give the patterns it was made with"
            )


def _parsed(tensor: Tensor | None) -> dict[str, str]:
    if tensor is None:
        return {}
    try:
        found = json.loads(bytes(tensor.cpu().tolist()))
    except ValueError as error:
        raise UserError("the saved state is damaged: its `patterns` cannot be read") from error
    return {str(name): str(own) for name, own in found.items()} if isinstance(found, dict) else {}
