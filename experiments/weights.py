"""Dense weights: from a file, from the project's checkpoints, or trained first."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ws_learner.errors import UserError
from ws_learner.report.artefact import load_state, load_tensors

__all__ = ["load_state_of", "load_weights"]


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a safetensors file, or a plain PyTorch state_dict (`.pt`, `.pth`), into `model`.

    Raises:
        UserError: The file cannot be read or belongs to another network.
    """
    load_tensors(model, load_state_of(path, flag="--dense_checkpoint "), path)


def load_state_of(path: Path, *, flag: str = "") -> dict[str, Tensor]:
    """Read the tensors of such a file; `flag` is put before the path in messages.

    Raises:
        UserError: The file cannot be read.
    """
    if path.suffix == ".safetensors":
        return load_state(path)
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        tensors: dict[str, Tensor] = state.get("state_dict", state)
    except FileNotFoundError as error:
        raise UserError(f"{flag}{path}: no such file") from error
    except Exception as error:  # torch raises many kinds; none of them is a stack trace's worth
        raise UserError(
            f"{flag}{path}: not a state_dict that loads without running code "
            f"({str(error).splitlines()[0]}); save model.state_dict() alone, or safetensors"
        ) from error
    return tensors
