"""The run directory of a language model: weights, and a folder with config and tokenizer."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ws_learner.core import RunDir
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.layer_rows import block_layers
from ws_learner.language.perplexity import perplexity, window_losses
from ws_learner.language.tensor_folder import TensorFolder

__all__ = ["companions_of", "is_language_run", "measure_again", "open_pruned"]


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
