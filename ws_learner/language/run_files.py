"""The run directory of a language model: weights, and a folder with config and tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ws_learner.core import RunDir, UserError, reason_of, shown
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.layer_rows import block_layers
from ws_learner.language.perplexity import perplexity, window_losses
from ws_learner.language.tensor_folder import TensorFolder
from ws_learner.language.texts import open_tokenizer
from ws_learner.language.transformers_import import import_transformers, quiet

__all__ = [
    "companions_of",
    "is_language_run",
    "measure_again",
    "open_in_transformers",
    "open_pruned",
]


def companions_of(run: RunDir) -> Path:
    """Folder with config and tokenizer."""
    return run.path / "network"


def is_language_run(run: RunDir) -> bool:
    """Whether a directory is of a causal language model."""
    return (companions_of(run) / "config.json").is_file()


def open_pruned(run: RunDir) -> BlockNetwork:
    """The pruned network of a run's folder.

    Raises:
        UserError: Files are missing or damaged.
    """
    return BlockNetwork(companions_of(run), tensors=TensorFolder(run.path))


def open_in_transformers(run: RunDir) -> tuple[Any, Any]:
    """The pruned network as a model of transformers in float32, and its tokenizer.

    Raises:
        UserError: It is no run of a language model, or files are missing or damaged.
    """
    if not is_language_run(run):
        raise UserError(f"{run.path}: is no run of a language model; ws-learner runs lists them")
    transformers, folder = import_transformers(), companions_of(run)
    tensors = TensorFolder(run.path)
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        left, _ = model.load_state_dict(
            {name: tensors.read(name) for name in tensors.shapes}, strict=False
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{run.path}: cannot be opened: {reason_of(error)}") from error
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    if set(left) - tied:
        raise UserError(f"{run.path}: lacks {shown(sorted(set(left) - tied)[0])}; prune again")
    model.tie_weights()
    return model.eval(), open_tokenizer(folder)


def measure_again(run: RunDir, windows: Tensor) -> tuple[float, int]:
    """Perplexity of a run's saved network on windows (N, T), and zeros in its blocks' layers.

    Raises:
        UserError: Files are missing or damaged.
    """
    network = open_pruned(run)
    zeros = sum(
        int((network.tensors.read(layer.key) == 0).sum()) for layer in block_layers(network)
    )
    return perplexity(window_losses(network, windows, what="the saved network")), zeros
