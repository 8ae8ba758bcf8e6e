"""The allocation problem as a Gymnasium environment."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.action_map import ActionMap
from envs.episode import Episode
from envs.features import FEATURES
from envs.problem import AllocationProblem

__all__ = ["ENV_ID", "PruningEnv", "register"]

ENV_ID = "ws/Pruning-v0"

Array = NDArray[np.float32]


class PruningEnv(gymnasium.Env[Array, Array]):
    """Chooses the prune ratios layer by layer; the network's score is the reward.

    **Action**: Box(-1, 1, (1,)). A fixed monotone map per layer: -1 the layer's least ratio, 0 its
    prior ratio, 1 its most (`ActionMap`); then clipped to what the budget still allows.

    **Observation**: Box(-1, 1, (len(FEATURES),)), float32; the table is in `ObservationBuilder`.

    **Reward**: 0 until the last step, then `Score.reward` of the whole profile. A candidate that
    could not be scored ends the episode like any other, with the reward in its score.

    **Episode**: one step per layer whose bounds leave a choice; it terminates after the last, never
    by a time limit. With `problem.exact` every episode ends on the budget exactly.

    **Info**: `layer` (index), `ratio` (executed prune ratio), `executed_action` (the action that
    ratio stands for); after the last step also `zeros` (L,) and `score` (a `Score`).

    The environment draws no random numbers; scores repeat if `problem.evaluate` is deterministic.

    Raises:
        ValueError: The budget cannot be met, or no layer has a choice.
    """

    def __init__(self, problem: AllocationProblem, action_map: ActionMap | None = None) -> None:
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.observation_space = spaces.Box(-1.0, 1.0, (len(FEATURES),), np.float32)
        self._problem = problem
        self._episode = Episode(problem, action_map or ActionMap.of(problem))
        if not self._episode.steps:
            raise ValueError(
                "no layer has a choice: every layer's least and most ratio coincide; widen "
                "`ws_ratio_min`/`ws_ratio_max` or exempt fewer layers"
            )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start a new episode."""
        super().reset(seed=seed, options=options)
        self._episode.restart()
        return self._episode.observation, {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Set one layer's ratio from an action (1,) in [-1, 1]."""
        layer = self._episode.layer
        executed = self._episode.step(float(np.asarray(action).reshape(())))
        zeros = self._episode.zeros
        info: dict[str, Any] = {
            "layer": layer,
            "ratio": float(zeros[layer] / self._problem.layers[layer].weights),
            "executed_action": executed,
        }
        if not self._episode.done:
            return self._episode.observation, 0.0, False, False, info
        (score,) = self._problem.evaluate([zeros])
        info |= {"zeros": zeros, "score": score}
        return self._episode.observation, float(score.reward), True, False, info


def register() -> None:
    """Register the environment for `gymnasium.make("ws/Pruning-v0", problem=...)`.

    Registration is per process; calling it again has no effect.
    """
    if ENV_ID not in gymnasium.registry:
        gymnasium.register(id=ENV_ID, entry_point="envs.pruning_env:PruningEnv")
