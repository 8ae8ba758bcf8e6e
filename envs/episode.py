"""One walk through the layers: each step sets one layer's zero count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.action_map import ActionMap
from envs.budget import check_feasible, feasible_interval
from envs.features import FEATURES, ObservationBuilder
from envs.problem import AllocationProblem, IntArray

__all__ = ["Episode", "Trajectory", "replay_episode", "run_episode"]

Observation = NDArray[np.float32]


class Episode:
    """Sets the layers of a problem one by one, in forward order.

    A step turns the action into a ratio by the fixed map, rounds it to a count and clips that to
    what is feasible: under `problem.exact`, to what lets the later layers still spend the budget,
    so that any actions end on it exactly; otherwise to the layer's bounds. Layers whose bounds
    coincide (exempt ones among them) are set beforehand and take no step.

    Raises:
        ValueError: The budget cannot be met within the bounds.
    """

    def __init__(self, problem: AllocationProblem, action_map: ActionMap) -> None:
        if problem.exact:
            check_feasible(
                problem.budget, lower=problem.lower, upper=problem.upper, weights=problem.weights
            )
        self._problem, self._map = problem, action_map
        self._observer = ObservationBuilder(problem, action_map)
        self._weights = problem.weights
        self._free: list[int] = np.flatnonzero(problem.lower < problem.upper).tolist()
        self.restart()

    def restart(self) -> None:
        """Go back to before the first step."""
        self._zeros = self._problem.lower.copy()
        self._step = 0
        self._previous = 0.0

    @property
    def steps(self) -> int:
        """How many steps a whole walk takes."""
        return len(self._free)

    @property
    def done(self) -> bool:
        """True when every layer is set."""
        return self._step == len(self._free)

    @property
    def layer(self) -> int:
        """Index of the layer to decide next."""
        return self._free[self._step]

    @property
    def zeros(self) -> IntArray:
        """(L,) zero counts; layers not yet decided stand at their least."""
        return self._zeros.copy()

    @property
    def observation(self) -> Observation:
        """(len(FEATURES),) what the agent sees, see `ObservationBuilder`; zeros when done."""
        if self.done:
            return np.zeros(len(FEATURES), np.float32)
        return self._observer(
            self.layer, self._zeros, interval=self._interval(), previous=self._previous
        )

    def step(self, action: float) -> float:
        """Set the next layer by an action in [-1, 1] and return the action executed.

        The executed action is the map's inverse of the ratio that was set; where it differs from
        `action`, the budget, a bound or rounding has had its say.

        Raises:
            ValueError: The action is not a number, or the walk is over.
        """
        if self.done:
            raise ValueError("every layer is set: restart() begins a new walk")
        if not np.isfinite(action):
            raise ValueError(f"action {action!r}: allowed is a number in [-1, 1]")
        i = self.layer
        least, most = self._interval()
        wanted = round(self._map.ratio(action, i) * int(self._weights[i]))
        self._zeros[i] = min(max(wanted, least), most)
        self._previous = self._map.action(float(self._zeros[i] / self._weights[i]), i)
        self._step += 1
        return self._previous

    def _interval(self) -> tuple[int, int]:
        i, problem = self.layer, self._problem
        if not problem.exact:
            return int(problem.lower[i]), int(problem.upper[i])
        return feasible_interval(
            i, self._zeros, lower=problem.lower, upper=problem.upper, budget=problem.budget
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Trajectory:
    """A finished episode of T steps.

    Attributes:
        zeros: (L,) zero counts chosen.
        observations: (T + 1, F) what was seen before each step, and at the end.
        actions: (T,) executed actions, in [-1, 1].
    """

    zeros: IntArray
    observations: Observation
    actions: NDArray[np.float64]


def run_episode(
    problem: AllocationProblem, action_map: ActionMap, *, choose: Callable[[Observation], float]
) -> Trajectory:
    """Walk through all layers, `choose` turning each observation into an action."""
    episode = Episode(problem, action_map)
    return _walk(episode, lambda observation: choose(observation))


def replay_episode(
    problem: AllocationProblem, action_map: ActionMap, *, zeros: IntArray
) -> Trajectory:
    """Walk along a given profile, as if its actions had been taken: a demonstration.

    Args:
        problem: The problem.
        action_map: Its map from actions to ratios.
        zeros: (L,) zero counts; a profile that fits bounds and budget is followed exactly, any
            other as far as they allow.
    """
    episode = Episode(problem, action_map)
    ratios = zeros / problem.weights
    return _walk(episode, lambda _: action_map.action(float(ratios[episode.layer]), episode.layer))


def _walk(episode: Episode, choose: Callable[[Observation], float]) -> Trajectory:
    observations, actions = [episode.observation], []
    while not episode.done:
        actions.append(episode.step(choose(observations[-1])))
        observations.append(episode.observation)
    return Trajectory(
        zeros=episode.zeros,
        observations=np.stack(observations),
        actions=np.array(actions, np.float64),
    )
