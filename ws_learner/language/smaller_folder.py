"""Hugging Face folders of networks that were cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ws_learner.core import check_saved_config
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.out import copy_companions
from ws_learner.language.tensor_writer import TensorEntry, write_tensor_by_tensor
from ws_learner.language.transformers_import import import_transformers, quiet

__all__ = ["tensor_entry", "write_folder"]


def tensor_entry(
    network: BlockNetwork,
    name: str,
    *,
    as_name: str | None = None,
    cut: tuple[int, int, Callable[[], Tensor]] | None = None,
) -> TensorEntry:
    """A tensor of the network as it is, or cut to a size along an axis."""
    shape, read = list(network.tensors.shapes[name]), lambda: network.tensors.read(name)
    if cut is not None:
        shape[cut[0]], read = cut[1], cut[2]
    dtype: torch.dtype = network.tensors.dtype(name)
    return TensorEntry(name=as_name or name, shape=tuple(shape), dtype=dtype, read=read)


def write_folder(
    network: BlockNetwork,
    folder: Path,
    change: Callable[[Any], None],
    entries: Sequence[TensorEntry],
) -> None:
    """Write config and tokenizer first and the weights last, as the sign that all is there.

    Args:
        network: The network whose config and tokenizer they are.
        folder: Made if it is not there.
        change: Changes the config.
        entries: The weights.

    Raises:
        UserError: The disk is full.
    """
    copy_companions(network.folder, folder)
    check_saved_config(folder, source=str(folder))
    with quiet():
        config = import_transformers().AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        change(config)
        config.save_pretrained(folder)
    write_tensor_by_tensor(folder / "model.safetensors", entries, metadata={"format": "pt"})
