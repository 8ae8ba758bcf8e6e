"""Masks of attention: which argument they come from, and as floats that are added to scores."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ws_learner.deploy.runtime.encoder_notes import Arguments, Slot, same

__all__ = ["MaskKind", "mask_of", "mask_slot", "probes"]

MaskKind = Literal["scores", "words"]
"""`scores`: (B or 1, 1, L or 1, L), added or, of truth values, True at what is seen; `words`:
(B, L), not 0 at words."""


def mask_slot(mask: Tensor | None, given: Arguments) -> tuple[Slot | None, MaskKind]:
    """The argument that the attention's mask comes from, and how; None if there is none."""
    for slot, value in given.items() if mask is not None else ():
        if not isinstance(value, Tensor):
            continue
        if same(value, mask) and value.dim() == 4 and value.shape[1] == 1:
            return slot, "scores"
        if value.dim() == 2 and same(value[:, None, None].bool(), mask):
            return slot, "words"
    return None, "scores"


def probes(batch: int, length: int) -> tuple[tuple[MaskKind, Tensor], ...]:
    """A mask of each kind that hides the last of at least two tokens."""
    words = torch.ones(batch, length, dtype=torch.bool)
    words[:, -1] = False
    scores = words[:, None, None].expand(batch, 1, length, length).clone()
    return ("scores", scores), ("words", words)


def mask_of(value: Tensor, kind: MaskKind, batch: int, length: int) -> Tensor | None:
    """(B, 1 or L, L) floats that are added to the scores; None if it is no mask as was expected."""
    if kind == "words":
        if value.shape != (batch, length):
            return None
        value = value[:, None, None].bool()
    if value.dim() != 4 or value.shape[1] != 1 or value.shape[0] not in (1, batch):
        return None
    if value.shape[3] != length or value.shape[2] not in (1, length):
        return None
    rows = value[:, 0]
    if rows.dtype == torch.bool:
        rows = torch.zeros(rows.shape).masked_fill_(~rows, float("-inf"))
    elif rows.dtype != torch.float32:
        return None
    return rows.expand(batch, -1, -1).contiguous()
