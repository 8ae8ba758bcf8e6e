"""The token that every request carries."""

from __future__ import annotations

import hmac
import secrets
import stat

from ws_learner.core import AnyPath, UserError, as_path, read_text

__all__ = ["new_token", "read_token", "same_token"]

LEAST = 20
"""Characters of a token that a person chose."""


def new_token() -> str:
    """A token of 256 random bits."""
    return secrets.token_urlsafe(32)


def read_token(path: AnyPath) -> str:
    """The token in a file that only its owner can read.

    Raises:
        UserError: There is none, others can read it, or it is short or not one plain word.
    """
    path = as_path(path, name="token_file")
    if not path.is_file():
        raise UserError(f"`token_file` {path}: no such file")
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UserError(f"`token_file` {path}: others may read it; run chmod 600 {path}")
    remedy = f"write one line of at least {LEAST} letters, digits, - or _"
    token = read_text(path, where=str(path), remedy=remedy).strip()
    plain = token.isascii() and token.replace("-", "").replace("_", "").isalnum()
    if len(token) < LEAST or not plain:
        raise UserError(f"`token_file` {path}: holds no good token; {remedy}")
    return token


def same_token(given: str, token: str) -> bool:
    """Whether two tokens are the same, in a time that does not depend on where they differ."""
    return hmac.compare_digest(given.encode(), token.encode())
