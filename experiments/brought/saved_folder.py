"""A finished run's network as a folder that transformers' `from_pretrained` opens."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ws_learner.core import UserError, say
from ws_learner.language import quiet

if TYPE_CHECKING:
    from experiments.experiment import Experiment

__all__ = ["save_folder"]


def save_folder(experiment: Experiment, folder: Path, *, replace: bool) -> None:
    """Write config, weights with their zeros and the image processor; open the folder again.

    Args:
        experiment: With the sparse weights.
        folder: Made if it is not there.
        replace: Whether it may hold files already.

    Raises:
        UserError: The network is none of transformers, or the folder is not empty.
    """
    model: Any = experiment.model
    if not hasattr(model, "save_pretrained"):
        raise UserError(
            f"--to hf: {experiment.name} is no network of transformers; use --to safetensors"
        )
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not replace)):
        raise UserError(f"--out {folder}: is there already; choose a new folder")
    with quiet():
        model.save_pretrained(folder)
        again = type(model).from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    for file in experiment.companions:
        shutil.copyfile(file, folder / file.name)
    wanted, found = model.state_dict(), again.state_dict()
    wrong = [n for n in wanted if n not in found or not torch.equal(wanted[n], found[n])]
    if wrong:
        raise UserError(f"--to hf: {folder} opens with another {wrong[0]}; use --to safetensors")
    zeros = sum(int((tensor == 0).sum()) for tensor in wanted.values())
    say(f"{type(model).__name__}.from_pretrained opens it with its {zeros:,} zeros")
