"""Predictions of the dense network, which those of pruned ones are compared with."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ws_learner.core import UserError
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.calls import logits_of
from ws_learner.language.measured_profiles import Measured

__all__ = ["DensePredictions"]


class DensePredictions:
    """The dense network's log-probabilities on windows, in a file that is mapped into memory.

    Attributes:
        loss: Its mean negative log likelihood on them, in nats per token.

    The file has 4 bytes for each token and piece of the vocabulary: 100 MB for a window of 512
    tokens and 49,152 pieces. It has no name and is gone with the object.
    """

    def __init__(
        self, network: BlockNetwork, windows: Tensor, hidden: Tensor, *, folder: Path
    ) -> None:
        """Write them.

        Args:
            network: The dense network.
            windows: (N, T) token numbers.
            hidden: (N, T, width) its last block's outputs.
            folder: For the file; made if it is not there.

        Raises:
            UserError: The disk is full.
        """
        self._network, self._windows = network, windows
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                losses = []
                for window, logits in zip(
                    windows, logits_of(network, windows, hidden), strict=True
                ):
                    found = torch.log_softmax(logits.float(), dim=-1)
                    losses.append(_loss(found, window))
                    file.write(found.numpy().data)
                file.flush()
                shape = (*windows.shape, found.shape[-1])
                self._kept = np.memmap(file, dtype=np.float32, mode="r+", shape=shape)
        except OSError as error:
            raise UserError(
                f"cannot write in {folder}: {error.strerror or error}; free space or take fewer "
                "`search_windows`, then run the same command again"
            ) from error
        self.loss = _mean(losses)

    def divergence(self, hidden: Tensor) -> float:
        """Mean KL divergence of a network from the dense one, in nats per token.

        Args:
            hidden: (N, T, width) the network's last block's outputs.
        """
        pairs = self._pairs(hidden)
        return _mean([_divergence(own, dense) for _, own, dense in pairs])

    def compare(self, hidden: Tensor) -> Measured:
        """All measures of a network.

        Args:
            hidden: (N, T, width) the network's last block's outputs.
        """
        losses, divergences, variations = [], [], []
        for window, own, dense in self._pairs(hidden):
            losses.append(_loss(own, window))
            divergences.append(_divergence(own, dense))
            variations.append(float((own.exp() - dense.exp()).abs().sum(-1).mean() / 2))
        return Measured(
            loss=_mean(losses), divergence=_mean(divergences), variation=_mean(variations)
        )

    def _pairs(self, hidden: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Of each window: tokens (T,), log-probabilities (T, pieces) of the network and dense."""
        logits_by_window = logits_of(self._network, self._windows, hidden)
        for place, logits in enumerate(logits_by_window):
            own = torch.log_softmax(logits.float(), dim=-1)
            yield self._windows[place], own, torch.from_numpy(self._kept[place])


def _loss(own: Tensor, window: Tensor) -> float:
    """Of log-probabilities (T, pieces) and tokens (T,)."""
    return -float(own[:-1].gather(1, window[1:, None]).mean())


def _divergence(own: Tensor, dense: Tensor) -> float:
    found = functional.kl_div(own, dense, log_target=True, reduction="batchmean")
    return max(float(found), 0.0)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
