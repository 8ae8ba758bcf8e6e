"""The allocation problem as a Gymnasium environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.action_map import ActionMap, ToRatio
from envs.episode import Episode, Spend
from envs.features import FEATURES
from envs.problem import AllocationProblem

__all__ = ["ENV_ID", "PruningEnv", "register"]

ENV_ID = "ws/Pruning-v0"

Array = NDArray[np.float32]


class PruningEnv(gymnasium.Env[Array, Array]):
    """Chooses the prune ratios layer by layer; the network's score is the reward.

    **Action**: Box(-1, 1, (1,)). A fixed monotone map per layer: -1 the layer's least ratio, 0 its
    prior ratio, 1 its most (`ActionMap`), or any other map; then clipped, see `spend`.

    **Observation**: Box(-1, 1, (len(FEATURES),)), float32; the table is in `ObservationBuilder`.

    **Reward**: 0 until the last step, then `Score.reward` of the whole profile. A candidate that
    could not be scored ends the episode like any other, with the reward in its score.

    **Episode**: one step per layer whose bounds leave a choice; it terminates after the last, never
    by a time limit. With `problem.exact` every episode ends on the budget exactly.

    **Goals**: with `goals`, `reset(options={"target": 0.9})` begins an episode with that overall
    prune ratio, which the observation shows; without the option the target stays as it was.

    **Info**: `layer` (index), `ratio` (prune ratio set), `executed_action` (the action that ratio
    stands for); after the last step also `zeros` (L,), the profile as executed and scored, `score`
    (a `Score`) and `target`.

    The environment draws no random numbers; scores repeat if `problem.evaluate` is deterministic.

    Args:
        problem: The problem, with the target of the first episodes.
        action_map: The map, or a function that makes it for a problem; by default
            `ActionMap.of`.
        spend: How an episode ends on the budget: see `Episode`.
        goals: Makes the problem of another target; None for one target only.
        rewarded: False leaves the scoring to the caller: the reward is 0 and there is no `score`.

    Raises:
        ValueError: The budget cannot be met, or no layer has a choice.
    """

    def __init__(
        self,
        problem: AllocationProblem,
        action_map: ToRatio | Callable[[AllocationProblem], ToRatio] | None = None,
        *,
        spend: Spend = "each step",
        goals: Callable[[float], AllocationProblem] | None = None,
        rewarded: bool = True,
    ) -> None:
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.observation_space = spaces.Box(-1.0, 1.0, (len(FEATURES),), np.float32)
        self._make_map = action_map or ActionMap.of
        self._spend, self._goals, self._rewarded = spend, goals, rewarded
        self._aimed: float | None = None
        self._begin(problem)

    def _begin(self, problem: AllocationProblem) -> None:
        self._problem = problem
        self._map: ToRatio = self._map_of(problem)
        self._episode = Episode(problem, self._map, spend=self._spend)
        if not self._episode.steps:
            raise ValueError(
                "no layer has a choice: every layer's least and most ratio coincide; widen "
                "`ws_ratio_min`/`ws_ratio_max` or exempt fewer layers"
            )

    def _map_of(self, problem: AllocationProblem) -> ToRatio:
        made = self._make_map
        return made(problem) if callable(made) else made

    def at(self, target: float) -> tuple[AllocationProblem, ToRatio]:
        """Problem and action map of a target; the running episode goes on.

        Raises:
            ValueError: It is another target, and there are no `goals`.
        """
        if target == self._problem.target:
            return self._problem, self._map
        if self._goals is None:
            raise ValueError(
                f"target {target!r}: this environment has the target {self._problem.target} "
                "only; give `goals`"
            )
        problem = self._goals(float(target))
        return problem, self._map_of(problem)

    def aim(self, target: float) -> None:
        """Let the next `reset` begin with this target, as its option `target` does."""
        self._aimed = target

    @property
    def problem(self) -> AllocationProblem:
        """The problem of the current target."""
        return self._problem

    @property
    def action_map(self) -> ToRatio:
        """The action map of the current target."""
        return self._map

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start a new episode; the option `target` sets the overall prune ratio."""
        super().reset(seed=seed, options=options)
        target = (options or {}).get("target", self._aimed)
        self._aimed = None
        if target is not None and target != self._problem.target:
            self._begin(self.at(target)[0])
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
        info |= {"zeros": zeros, "target": self._problem.target}
        if not self._rewarded:
            return self._episode.observation, 0.0, True, False, info
        (score,) = self._problem.evaluate([zeros])
        info |= {"score": score}
        return self._episode.observation, float(score.reward), True, False, info


def register() -> None:
    """Register the environment for `gymnasium.make("ws/Pruning-v0", problem=...)`.

    Registration is per process; calling it again has no effect.
    """
    if ENV_ID not in gymnasium.registry:
        gymnasium.register(id=ENV_ID, entry_point="envs.pruning_env:PruningEnv")
