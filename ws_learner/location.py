"""Which layers may be pruned, by their role in the network (`--ws_location`). Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from envs.problem import LayerRow
from ws_learner.errors import UserError

__all__ = ["at_location"]

_ATTENTION = ("q", "k", "v", "qkv", "o")


def at_location(layers: Sequence[LayerRow], location: Sequence[str]) -> tuple[LayerRow, ...]:
    """The layer table with all layers exempt that have none of these roles; they stay dense.

    Args:
        layers: The layer table.
        location: Roles, or `attention` for q, k, v and o together; an attention that computes q,
            k and v by one weight (role `qkv`) belongs to attention alone. None at all allows
            every layer.

    Raises:
        UserError: No layer has one of the roles.
    """
    if not location:
        return tuple(layers)
    there = dict.fromkeys(row.role for row in layers)
    wanted: set[str] = set()
    for role in location:
        meant = set(_ATTENTION) if role == "attention" else {role}
        if not meant & there.keys():
            raise UserError(
                f"--ws_location {role}: no layer has this role; the roles here are "
                f"{', '.join(there)}"
            )
        wanted |= meant
    return tuple(replace(row, exempt=row.exempt or row.role not in wanted) for row in layers)
