"""Parse values in the spelling of timm's N:M configs. Free of torch."""

from __future__ import annotations

import math

from ws_learner.compat.values import boolean, number, whole
from ws_learner.config import parse_roles
from ws_learner.core import UserError

__all__ = ["decay_coefficient", "from_one", "roles_of", "share_or_percent", "switch"]


def from_one(value: object) -> int:
    """A whole number from 1.

    Raises:
        TypeError, ValueError: It is none.
    """
    count = whole(value)
    if count < 1:
        raise ValueError
    return count


def switch(value: object) -> bool:
    """True or false, as words too.

    Raises:
        TypeError, ValueError: It is none.
    """
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return boolean(value)


def decay_coefficient(value: object) -> float:
    """A number in (0, 1].

    Raises:
        TypeError, ValueError: It is none.
    """
    beta = number(value)
    if not 0 < beta <= 1:
        raise ValueError
    return beta


def share_or_percent(value: object) -> float:
    """A share in [0, 1]; `10%` is one.

    Raises:
        TypeError, ValueError: It is none.
    """
    percent = isinstance(value, str) and value.strip().endswith("%")
    share = number(str(value).strip().rstrip("%")) / 100 if percent else number(value)
    if not (math.isfinite(share) and 0 <= share <= 1):
        raise ValueError
    return share


def roles_of(value: object) -> str:
    """Roles in our spelling, from `FFQK` and the like.

    Raises:
        TypeError, ValueError: It is none.
    """
    try:
        return ",".join(parse_roles(str(value), flag="sparsity_loc"))
    except UserError as error:
        raise ValueError from error
