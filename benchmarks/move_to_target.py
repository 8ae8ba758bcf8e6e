"""Gymnasium environment of PocketFlow's agent check: move a point to a target."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

__all__ = ["REACH", "STEPS", "MoveToTarget"]

STEPS = 200
REACH = 10.0

Array = NDArray[np.float32]


class MoveToTarget(gymnasium.Env[Array, Array]):
    """A point in four dimensions and 200 steps to bring it to the origin.

    It starts uniformly in [-10, 10]^4, on average 11.3 from the target.

    **Action**: Box(-1, 1, (4,)), added to the position.

    **Observation**: Box, float32 (4,): the position in tens.

    **Reward**: distance before - distance after - `path_cost` x length of the step. PocketFlow's
    `path_cost` is 1: nothing earns more than 0, and standing still earns it as well as arriving.
    At 0.5, our default, every unit of distance closed pays a half, so only arriving is best; the
    return of a straight walk to the target is half the starting distance.

    **Info**: `distance` left; `waste`, what PocketFlow's reward of this step would be (0 for a
    step straight at the target, else negative).

    **Episode**: cut by time after 200 steps.

    Source: PocketFlow, rl_agents/unit_tests/move_to_target.py.
    """

    def __init__(self, *, path_cost: float = 0.5) -> None:
        # In 200 steps a point may also walk straight away.
        far = (REACH + STEPS) / REACH
        self.observation_space = spaces.Box(-far, far, (4,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (4,), np.float32)
        self._path_cost = path_cost
        self._position: NDArray[np.float64] = np.zeros(4)
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Put the point somewhere new."""
        super().reset(seed=seed, options=options)
        self._position = self.np_random.uniform(-REACH, REACH, 4)
        self._steps = 0
        return self._observe(), {"distance": float(np.linalg.norm(self._position))}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Move by `action` (4,)."""
        move = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        before = float(np.linalg.norm(self._position))
        self._position = self._position + move
        after, length = float(np.linalg.norm(self._position)), float(np.linalg.norm(move))
        self._steps += 1
        info = {"distance": after, "waste": before - after - length}
        reward = before - after - self._path_cost * length
        return self._observe(), reward, False, self._steps >= STEPS, info

    def _observe(self) -> Array:
        return (self._position / REACH).astype(np.float32)
