"""Dense weights: from a file, from the project's checkpoints, or trained first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.core import (
    RunDir,
    UserError,
    load_state,
    load_tensors,
    sha256_of,
    shown,
    shown_repr,
)

__all__ = ["load_dense_state", "load_weights", "weights_digest"]

_NESTED = ("state_dict", "model", "model_state_dict")


def load_weights(model: nn.Module, path: Path, *, flag: str = "--dense_checkpoint ") -> None:
    """Load a safetensors file, or a plain PyTorch state_dict (`.pt`, `.pth`), into `model`.

    Raises:
        UserError: The file cannot be read or belongs to another network.
    """
    load_tensors(model, load_dense_state(path, flag=flag), path)


def weights_digest(path: Path | None) -> str | None:
    """SHA-256 of such a file; None if there is none."""
    if path is not None and path.is_dir():
        path = path / "model.safetensors"
    return sha256_of(path) if path is not None and path.is_file() else None


def load_dense_state(path: Path, *, flag: str = "") -> dict[str, Tensor]:
    """Read the tensors of such a file; `flag` is put before the path in messages.

    A checkpoint that holds the state_dict under `state_dict`, `model` or `model_state_dict` is
    fine; a folder means its `model.safetensors`, as of a run.

    Raises:
        UserError: The file cannot be read.
    """
    if path.is_dir():
        run = RunDir(path)
        if run.finished:
            run.read_summary()  # refuses damaged results
        path = run.model
    if path.suffix == ".safetensors":
        try:
            return load_state(path)
        except UserError as error:
            raise UserError(f"{flag}{error}") from error
    try:
        loaded = torch.load(path, weights_only=True, map_location="cpu")
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise UserError(f"{flag}{path}: {reason}") from error
    except Exception as error:  # torch raises many kinds of errors; one line tells all
        raise UserError(
            f"{flag}{path}: not a state_dict that loads without running code; save "
            "model.state_dict() alone, or safetensors"
        ) from error
    return _tensors(loaded, where=f"{flag}{path}")


def _tensors(loaded: Any, *, where: str) -> dict[str, Tensor]:
    for key in _NESTED if isinstance(loaded, Mapping) else ():
        if isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
            break
    if not isinstance(loaded, Mapping):
        raise UserError(f"{where}: holds a {type(loaded).__name__}, not a state_dict")
    strange = [name for name, value in loaded.items() if not isinstance(value, Tensor)]
    if strange:
        raise UserError(
            f"{where}: no state_dict: {shown_repr(strange[0])} is a "
            f"{type(loaded[strange[0]]).__name__}, not a tensor; save model.state_dict() alone, "
            f"or put it under {_NESTED[0]!r}"
        )
    for name, value in loaded.items():
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise UserError(
                f"{where}: {shown(str(name))} is larger than what is stored of it (an expanded "
                "tensor); save model.state_dict() of ordinary weights"
            )
    return {str(name): value for name, value in loaded.items()}
