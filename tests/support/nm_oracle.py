"""N:M training of one linear layer by another road: NumPy in float64, plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def mask_of(weight: Array, n: int, m: int) -> NDArray[np.bool_]:
    """N of M largest magnitudes along each row; equal ones: the last; ragged groups keep N too."""
    mask = np.ones(weight.shape, dtype=bool)
    for row, values in enumerate(np.abs(weight)):
        for start in range(0, len(values), m):
            group = values[start : start + m].tolist()
            order = sorted(range(len(group)), key=lambda i: group[i])  # stable
            for index in order[: max(len(group) - n, 0)]:
                mask[row, start + index] = False
    return mask


@dataclass
class Layer:
    """y = (w * factor) x with loss sum((y - t)^2) / 2, trained by SGD with momentum or AdamW."""

    weight: Array
    optimizer: str
    rate: float = 0.05
    momentum: float = 0.9
    decay: float = 0.1
    steps: int = 0
    state: dict[str, Array] = field(default_factory=dict)

    def gradient(self, factor: Array, x: Array, t: Array) -> Array:
        """By the masked weight."""
        return (x @ (self.weight * factor).T - t).T @ x

    def update(self, grad: Array) -> None:
        self.steps += 1
        if self.optimizer == "sgd":
            old = self.state.get("v")
            self.state["v"] = grad if old is None else self.momentum * old + grad
            self.weight = self.weight - self.rate * self.state["v"]
            return
        self.weight = self.weight * (1 - self.rate * self.decay)
        first = self.state.get("m", np.zeros_like(grad)) * 0.9 + 0.1 * grad
        second = self.state.get("v", np.zeros_like(grad)) * 0.999 + 0.001 * grad**2
        self.state = {"m": first, "v": second}
        corrected = first / (1 - 0.9**self.steps)
        spread = np.sqrt(second / (1 - 0.999**self.steps)) + 1e-8
        self.weight = self.weight - self.rate * corrected / spread


def soft_value(
    kind: str, done: int, *, length: int, zero_at: float, beta: float | None = None
) -> float:
    """D(j) by the formulas of the paper."""
    if kind == "step":
        return 0.0
    if kind == "linear":
        rate = 1 / (zero_at * length) if beta is None else beta
        value = max(1 - rate * done, 0.0)
        return 0.0 if value < 1e-9 else value
    rate = math.log(1000) / (zero_at * length) if beta is None else beta
    value = math.exp(-rate * done)
    return value if beta is not None or value > 0.001000001 else 0.0


Pattern = Callable[[int], tuple[int, int]]
