"""A private random state for the agent, isolated from the rest of the process."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["OwnRandomness"]


class OwnRandomness:
    """Private states of the global generators: Python, legacy NumPy and torch on the CPU.

    stable-baselines3 draws from the global generators. Inside `active()` they continue from this
    object's states, and torch uses one thread, so that sums have a fixed order. On leaving, the
    generators and the thread count are restored.
    """

    def __init__(self, seed: int) -> None:
        self._torch = torch.Generator().manual_seed(seed).get_state()
        self._numpy: Any = np.random.RandomState(seed % 2**32).get_state(legacy=True)
        self._python: Any = random.Random(seed).getstate()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Run the global generators from this object's states inside the block."""
        outside = self._read(), torch.get_num_threads()
        self._write((self._torch, self._numpy, self._python))
        torch.set_num_threads(1)
        try:
            yield
        finally:
            self._torch, self._numpy, self._python = self._read()
            self._write(outside[0])
            torch.set_num_threads(outside[1])

    def state(self) -> dict[str, Any]:
        """Return the states as one tensor and two JSON texts."""
        name, keys, *rest = self._numpy
        return {
            "torch": self._torch.clone(),
            "numpy": json.dumps([name, keys.tolist(), *rest]),
            "python": json.dumps(self._python),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state()` returned."""
        name, keys, *rest = json.loads(state["numpy"])
        version, words, gauss = json.loads(state["python"])
        self._torch = state["torch"].clone()
        self._numpy = (name, np.array(keys, np.uint32), *rest)
        self._python = (version, tuple(words), gauss)

    @staticmethod
    def _read() -> tuple[torch.Tensor, Any, Any]:
        return torch.get_rng_state(), np.random.get_state(legacy=True), random.getstate()

    @staticmethod
    def _write(states: tuple[torch.Tensor, Any, Any]) -> None:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
