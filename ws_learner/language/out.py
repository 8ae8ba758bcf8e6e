"""The pruned network as files: one safetensors file in the run, and a Hugging Face folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ws_learner.core import RunDir, UserError, check_saved_config, reason_of, say, write_with
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.layer_rows import BlockLayer
from ws_learner.language.run_files import companions_of
from ws_learner.language.tensor_folder import TensorFolder
from ws_learner.language.tensor_writer import TensorEntry, write_tensor_by_tensor
from ws_learner.language.texts import TOKENIZER_FILES
from ws_learner.language.transformers_import import import_transformers, quiet
from ws_learner.language.walk import PrunedBlocks

__all__ = ["copy_companions", "save_hf_folder", "write_pruned"]

_COMPANIONS = ("config.json", "generation_config.json", *TOKENIZER_FILES)
_WEIGHTS = "model.safetensors"


def write_pruned(
    path: Path,
    network: BlockNetwork,
    layers: tuple[BlockLayer, ...],
    pruned: PrunedBlocks,
) -> None:
    """Write all tensors under the folder's names and in its formats, one in memory at a time.

    Raises:
        UserError: The disk is full, or a file of the state is damaged.
    """
    blocks = {layer.key: layer.block for layer in layers}

    def read(name: str) -> Tensor:
        changed = pruned.read(blocks[name]) if name in blocks else {}
        return changed[name] if name in changed else network.tensors.read(name)

    names = sorted(network.tensors.shapes, key=lambda name: (blocks.get(name, -1), name))
    entries = [
        TensorEntry(
            name=name,
            shape=network.tensors.shapes[name],
            dtype=network.tensors.dtype(name),
            read=lambda name=name: read(name),  # type: ignore[misc]
        )
        for name in names
    ]
    write_tensor_by_tensor(path, entries, metadata={"format": "pt"})


def copy_companions(source: Path, folder: Path) -> None:
    """Copy config and tokenizer.

    Raises:
        UserError: The disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _COMPANIONS:
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
    except OSError as error:
        raise UserError(
            f"cannot write {folder}: {error.strerror or error}; free space, then run the same "
            "command again"
        ) from error


def save_hf_folder(run: RunDir, folder: Path, *, replace: bool) -> None:
    """Make a folder that `from_pretrained` loads, and load it.

    Args:
        run: A finished run.
        folder: Made if it is not there.
        replace: Whether it may hold files already.

    Raises:
        UserError: The folder is not empty, the run's own files are damaged, or transformers opens
            the folder with other weights.
    """
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not replace)):
        raise UserError(f"`out` {folder}: is there already; choose a new folder")
    own = companions_of(run)
    check_saved_config(own, source=str(own))
    made = not folder.exists()
    try:
        _write(run, own, folder)
    except UserError:
        if made:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _write(run: RunDir, own: Path, folder: Path) -> None:
    copy_companions(own, folder)
    write_with(folder / _WEIGHTS, lambda made: shutil.copyfile(run.model, made))
    zeros = _check_opens(folder)
    say(f"AutoModelForCausalLM.from_pretrained opens it with its {zeros:,} zeros")


def _check_opens(folder: Path) -> int:
    """Number of zeros in the matrices of the opened network, all compared with the file."""
    transformers = import_transformers()
    try:
        with quiet():
            model = transformers.AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, dtype="auto"
            )
    except Exception as error:  # many kinds; one line tells all
        raise UserError(
            f"{folder}: transformers cannot open it: {reason_of(error)}; take the run's network/ "
            "folder from a copy"
        ) from error
    state: Mapping[str, Tensor] = model.state_dict()
    tensors, prefix = TensorFolder(folder), f"{model.base_model_prefix}."
    zeros = 0
    for name in tensors.shapes:
        opened = next(
            (one for one in (name, prefix + name, name.removeprefix(prefix)) if one in state), None
        )
        if opened is None:
            continue  # buffers of old versions
        stored = tensors.read(name)
        if not torch.equal(state[opened], stored):
            raise UserError(f"{folder} opens with another {name}")
        zeros += int((stored == 0).sum()) if stored.dim() == 2 else 0
    return zeros
