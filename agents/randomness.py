"""The agent's own random numbers, whatever else in the process draws some."""

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
    """A private set of the global generators: Python's, NumPy's legacy one and torch's on the CPU.

    stable-baselines3 draws from the global ones. Inside `active()` they continue from this
    object's states, and one torch thread works, so that sums are added in one order; outside, the
    process finds generators and thread count as it left them.
    """

    def __init__(self, seed: int) -> None:
        self._torch = torch.Generator().manual_seed(seed).get_state()
        self._numpy: Any = np.random.RandomState(seed % 2**32).get_state(legacy=True)
        self._python: Any = random.Random(seed).getstate()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let the global generators be this object's for a while."""
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
