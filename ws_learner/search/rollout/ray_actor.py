"""The Ray actor that scores candidates."""

from __future__ import annotations

import os

import cloudpickle
import numpy as np
import torch
from numpy.typing import NDArray

from envs import IntArray, Score

__all__ = ["RolloutActor"]


class RolloutActor:
    """Holds one evaluator, on one thread.

    Args:
        pickled: The evaluator's bytes, read in place from the machine's object store.
    """

    def __init__(self, pickled: NDArray[np.uint8]) -> None:
        torch.set_num_threads(1)
        self._evaluator = cloudpickle.loads(pickled.data)

    def place(self) -> tuple[int, str]:
        """Process number and Ray's name of the machine; the answer says that the worker is up."""
        import ray

        return os.getpid(), ray.get_runtime_context().get_node_id()

    def score(self, zeros: IntArray) -> Score:
        """Score one candidate; see `RolloutEvaluator.score`."""
        score: Score = self._evaluator.score(zeros.copy())  # what Ray brings is read-only
        return score
