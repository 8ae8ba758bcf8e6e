"""Patterns as LPOT spells them. Free of torch."""

from __future__ import annotations

import re

from ws_learner.config import parse_pattern_spec
from ws_learner.core import UserError

__all__ = ["spelled_pattern"]


def spelled_pattern(text: str) -> str:
    """Our spelling of a pattern in LPOT's, where N:M counts the zeros: its `1:4` is our `3:4`.

    Raises:
        UserError: It is no pattern.
    """
    counted = re.fullmatch(r"(.*_)?(\d+)(:|in)(\d+)", text.strip())
    if counted:
        zeros, group = int(counted[2]), int(counted[4])
        if not 0 < zeros < group:
            raise UserError(f"pattern {text}: must prune more than none and fewer than all of M")
        return f"{group - zeros}:{group}"
    parse_pattern_spec(text)
    return text
