"""Dense weights: from a file, from the project's checkpoints, or trained first."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ws_learner.errors import UserError
from ws_learner.report.artefact import load_into, load_tensors

__all__ = ["load_weights"]


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a safetensors file, or a plain PyTorch state_dict (`.pt`, `.pth`), into `model`.

    Raises:
        UserError: The file cannot be read or belongs to another network.
    """
    if path.suffix == ".safetensors":
        load_into(model, path)
        return
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except FileNotFoundError as error:
        raise UserError(f"--dense_checkpoint {path}: no such file") from error
    except Exception as error:  # torch raises many kinds; none of them is a stack trace's worth
        raise UserError(
            f"--dense_checkpoint {path}: not a state_dict that loads without running code "
            f"({str(error).splitlines()[0]}); save model.state_dict() alone, or safetensors"
        ) from error
    load_tensors(model, state.get("state_dict", state), path)
