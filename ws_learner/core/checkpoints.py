"""Checkpoint files of tensors and plain values: written atomically, read without pickle."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import torch

from ws_learner.core.checksums import sealed_zip, zip_is_whole
from ws_learner.core.errors import UserError
from ws_learner.core.files import write_bytes
from ws_learner.core.paths import AnyPath, as_path

__all__ = ["STATE_REMEDY", "load_state_file", "save_state_file"]

STATE_REMEDY = (
    "delete it and run the same command again; that stage then restarts from its beginning"
)


def save_state_file(path: AnyPath, state: Mapping[str, Any]) -> None:
    """Write tensors, numbers, text and nested dicts of them atomically.

    Raises:
        UserError: The disk is full or the folder cannot be written.
    """
    path = as_path(path)
    buffer = io.BytesIO()  # torch.save to a file hides a full disk behind a RuntimeError
    torch.save(dict(state), buffer)
    write_bytes(path, sealed_zip(buffer.getvalue()))


def load_state_file(path: AnyPath) -> dict[str, Any]:
    """Read what `save_state_file` wrote; tensors arrive on the CPU.

    Raises:
        UserError: The file is damaged.
    """
    path = as_path(path)
    try:
        if not zip_is_whole(path):
            raise UserError(f"{path}: damaged (its SHA-256 is another); {STATE_REMEDY}")
        state = torch.load(path, weights_only=True, map_location="cpu")
    except UserError:
        raise
    except Exception as error:  # torch raises many kinds
        raise UserError(f"{path}: damaged ({type(error).__name__}); {STATE_REMEDY}") from error
    if not isinstance(state, dict):
        raise UserError(f"{path}: damaged (holds no state); {STATE_REMEDY}")
    return state
