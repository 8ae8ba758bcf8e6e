"""Rollouts of language models: networks of blocks from the database, scored against the dense."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from envs import IntArray, Score
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.calls import BlockCall, embed, logits_of
from ws_learner.language.settings import RewardName
from ws_learner.language.solved_blocks import SolvedBlocks
from ws_learner.language.walk import run_windows

__all__ = ["Measured", "Rollouts"]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A network's predictions on windows; all in nats or probabilities per token.

    Attributes:
        loss: Mean negative log likelihood.
        divergence: Mean KL divergence from the dense network.
        variation: Mean total variation distance from the dense network, in [0, 1].
    """

    loss: float
    divergence: float
    variation: float


class Rollouts:
    """Scores profiles on windows."""

    def __init__(
        self,
        network: BlockNetwork,
        windows: Tensor,
        solved: SolvedBlocks,
        weights: IntArray,
        *,
        reward: RewardName,
    ) -> None:
        """Run the dense network once.

        Args:
            network: The dense network.
            windows: (N, T) token numbers.
            solved: Pruned blocks.
            weights: (B,) weights of each block.
            reward: What a profile is judged by.
        """
        self._network, self._windows, self._solved = network, windows, solved
        self._weights, self._reward = weights, reward
        self._embedded, self._calls = embed(network, windows)
        self._wanted = [torch.log_softmax(one.float(), -1) for one in self._logits(None)]

    def __call__(self, profiles: Sequence[IntArray]) -> list[Score]:
        """Scores of profiles, (B,) zeros of each block."""
        return [self._score(zeros) for zeros in profiles]

    def _score(self, zeros: IntArray) -> Score:
        began = time.monotonic()
        found = self.measure(zeros)
        rewards = {
            "kl": math.exp(-found.divergence),
            "tv": 1 - found.variation,
            "perplexity": math.exp(-found.loss),
        }
        return Score(
            reward=rewards[self._reward],
            accuracy=math.exp(min(found.loss, 700.0)),
            accuracy_before=math.exp(min(found.loss, 700.0)),
            divergence=found.divergence,
            seconds=time.monotonic() - began,
        )

    def measure(self, zeros: IntArray) -> Measured:
        """All three measures of a profile, (B,) zeros of each block."""
        parts = []
        levels = self._solved.levels(zeros, self._weights)
        for window, wanted, logits in zip(
            self._windows, self._wanted, self._logits(levels), strict=True
        ):
            own = torch.log_softmax(logits.float(), -1)
            taken = own[:-1].gather(1, window[1:, None]).mean()
            apart = (own.exp() - wanted.exp()).abs().sum(-1).mean() / 2
            kl = torch.nn.functional.kl_div(own, wanted, log_target=True, reduction="batchmean")
            parts.append((-float(taken), float(kl), float(apart)))
        loss, divergence, variation = (
            sum(column) / len(parts) for column in zip(*parts, strict=True)
        )
        return Measured(loss=loss, divergence=max(divergence, 0.0), variation=variation)

    def _logits(self, levels: IntArray | None) -> list[Tensor]:
        hidden = self._embedded.clone()
        calls: list[BlockCall] = self._calls
        for number, call in enumerate(calls):
            changed = {} if levels is None else self._solved.read(number, int(levels[number]))
            with self._network.block(number, changed) as block:
                run_windows(block, hidden, call)
        return list(logits_of(self._network, self._windows, hidden))
