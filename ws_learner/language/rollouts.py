"""Rollouts of language models: networks of blocks from the database, scored against the dense."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from envs import IntArray, Score
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.calls import BlockCall, embed
from ws_learner.language.measured_profiles import Measured, MeasuredProfiles
from ws_learner.language.predictions import DensePredictions
from ws_learner.language.settings import RewardName
from ws_learner.language.solved_blocks import SolvedBlocks
from ws_learner.language.walk import run_windows

__all__ = ["Rollouts"]


class Rollouts:
    """Scores profiles on windows.

    Attributes:
        network: The dense network.
        solved: Its pruned blocks.
        weights: (B,) weights of each block.
        embedded: (N, T, width) inputs of the first block.
        calls: How each block is called.
        dense: The dense network's predictions.
        windows_digest: Part of the names of files with what is measured on these windows.
    """

    def __init__(
        self,
        network: BlockNetwork,
        windows: Tensor,
        solved: SolvedBlocks,
        weights: IntArray,
        *,
        reward: RewardName = "kl",
        folder: Path,
    ) -> None:
        """Run the dense network once.

        Args:
            network: The dense network.
            windows: (N, T) token numbers.
            solved: Pruned blocks.
            weights: (B,) weights of each block.
            reward: What a profile is judged by.
            folder: For the dense network's predictions, and for what is measured of profiles on
                these windows.

        Raises:
            UserError: A file is damaged, or the disk is full.
        """
        self.network, self.solved, self.weights = network, solved, weights
        self._reward = reward
        self.windows_digest = hashlib.sha256(windows.numpy().tobytes()).hexdigest()[:12]
        self._kept = MeasuredProfiles(folder / f"measured_{self.windows_digest}.csv")
        self.embedded, self.calls = embed(network, windows)
        self.dense = DensePredictions(network, windows, self._behind(None), folder=folder)

    def __call__(self, profiles: Sequence[IntArray]) -> list[Score]:
        """Scores of profiles, (B,) zeros of each block."""
        return [self._score(zeros) for zeros in profiles]

    def _score(self, zeros: IntArray) -> Score:
        began = time.monotonic()
        levels = self.solved.levels(zeros, self.weights)
        found, reward = self.measure(levels), self.reward(levels)
        perplexity = math.exp(min(found.loss, 700.0))
        return Score(
            reward=reward,
            accuracy=perplexity,
            accuracy_before=perplexity,
            divergence=found.divergence,
            seconds=time.monotonic() - began,
        )

    def measure(self, levels: IntArray) -> Measured:
        """All three measures of a profile, (B,) numbers of the blocks' ratios."""
        return self._kept.of(levels, lambda one: self.dense.compare(self._behind(one)))

    def reward(self, levels: IntArray) -> float:
        """What a search maximises, 1 for the dense network.

        It is exp(-KL divergence), 1 - total variation distance, or the dense network's perplexity
        over the profile's.
        """
        found = self.measure(levels)
        rewards: dict[RewardName, float] = {
            "kl": math.exp(-found.divergence),
            "tv": 1 - found.variation,
            "perplexity": math.exp(min(self.dense.loss - found.loss, 700.0)),
        }
        return rewards[self._reward]

    def run(self, number: int, level: int | None, hidden: Tensor | Sequence[Tensor]) -> None:
        """Put a block's outputs in the place of its inputs (N, T, width), of one or several.

        Args:
            number: The block.
            level: Number of its ratio; None: dense.
            hidden: Changed in place.
        """
        call: BlockCall = self.calls[number]
        changed = {} if level is None else self.solved.read(number, level)
        with self.network.block(number, changed) as block:
            for one in [hidden] if isinstance(hidden, Tensor) else hidden:
                run_windows(block, one, call)

    def _behind(self, levels: IntArray | None) -> Tensor:
        hidden = self.embedded.clone()
        for number in range(len(self.calls)):
            self.run(number, None if levels is None else int(levels[number]), hidden)
        return hidden
