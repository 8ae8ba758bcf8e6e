"""The Ray actor that scores candidates."""

from __future__ import annotations

import copy
import os

import cloudpickle
import numpy as np
import torch
from numpy.typing import NDArray

from envs import IntArray, Score

__all__ = ["RolloutActor"]


class RolloutActor:
    """Ray actor with one evaluator, on one thread.

    Args:
        pickled: The pickled evaluator, read from the machine's object store without a copy.
    """

    def __init__(self, pickled: NDArray[np.uint8]) -> None:
        torch.set_num_threads(1)
        self._evaluator = cloudpickle.loads(pickled.data)

    def place(self) -> tuple[int, str]:
        """Process id and Ray's node id; the reply shows that the worker has started."""
        import ray

        return os.getpid(), ray.get_runtime_context().get_node_id()

    def score(self, zeros: IntArray) -> Score:
        """Score one candidate; see `RolloutEvaluator.score`."""
        score: Score = self._evaluator.score(copy.copy(zeros))  # arrays from Ray are read-only
        return score
