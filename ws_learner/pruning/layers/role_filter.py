"""Which layers may be pruned, by their role in the network (`--ws_location`). Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from envs import LayerRow
from ws_learner.core import UserError

__all__ = ["filter_by_role"]

_STACKED = {"qkv": {"q", "k", "v"}}


def filter_by_role(layers: Sequence[LayerRow], roles: Sequence[str]) -> tuple[LayerRow, ...]:
    """The layer table with all layers exempt that have none of these roles; they stay dense.

    Args:
        layers: The layer table.
        roles: As `read_roles` gives them. A weight that stacks q, k and v is pruned where all three
            are named. None at all allows every layer.

    Raises:
        UserError: No layer has one of the roles.
    """
    if not roles:
        return tuple(layers)
    there = {row.role: _STACKED.get(row.role, {row.role}) for row in layers}
    for role in roles:
        if not any(role in own for own in there.values()):
            raise UserError(
                f"`location` {role}: no layer has this role; the roles here are {', '.join(there)}"
            )
    for role, own in there.items():
        if own & set(roles) and not own <= set(roles):
            raise UserError(
                f"`location` {','.join(roles)}: the weights of role {role} hold q, k and v in "
                "one; name all three, or an N:M pattern, which can prune a part"
            )
    return tuple(
        replace(row, exempt=row.exempt or not there[row.role] <= set(roles)) for row in layers
    )
