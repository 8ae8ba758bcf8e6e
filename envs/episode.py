"""An episode over the layers: each step sets one layer's zero count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from envs.action_map import ToRatio
from envs.budget import check_feasible, feasible_interval, project
from envs.features import FEATURES, ObservationBuilder
from envs.problem import AllocationProblem, IntArray

__all__ = ["Episode", "Spend", "Trajectory", "replay_episode", "run_episode"]

Observation = NDArray[np.float32]
Spend = Literal["each step", "last step"]


class Episode:
    """Sets the layers of a problem one by one, in forward order.

    A step maps the action to a ratio, rounds it to a count and clips it to an interval. With
    `problem.exact` every episode ends on the budget, by one of two rules:

    - `each step`: the interval lets the later layers still meet the budget;
    - `last step`: the interval is the layer's bounds; after the last step all densities are
      multiplied by one factor (`project`). The layers share what is over or under the budget.

    Layers whose bounds coincide, such as exempt ones, are set beforehand and take no step.

    Args:
        problem: The problem.
        action_map: From actions to ratios.
        spend: Which rule brings the episode onto the budget.

    Raises:
        ValueError: The budget cannot be met within the bounds.
    """

    def __init__(
        self, problem: AllocationProblem, action_map: ToRatio, *, spend: Spend = "each step"
    ) -> None:
        if problem.exact:
            check_feasible(
                problem.budget, lower=problem.lower, upper=problem.upper, weights=problem.weights
            )
        self._problem, self._map = problem, action_map
        self._each = problem.exact and spend == "each step"
        self._last = problem.exact and spend == "last step"
        self._observer = ObservationBuilder(problem, action_map)
        self._weights = problem.weights
        self._free: list[int] = np.flatnonzero(problem.lower < problem.upper).tolist()
        self.restart()

    def restart(self) -> None:
        """Reset to the state before the first step."""
        self._zeros = self._problem.lower.copy()
        self._step = 0
        self._previous = 0.0

    @property
    def steps(self) -> int:
        """Number of steps of an episode."""
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
        """(L,) zero counts; layers not yet decided have their lower bound."""
        return self._zeros.copy()

    @property
    def observation(self) -> Observation:
        """(len(FEATURES),) observation, see `ObservationBuilder`; zeros when done."""
        if self.done:
            return np.zeros(len(FEATURES), np.float32)
        return self._observer(
            self.layer, self._zeros, interval=self._interval(), previous=self._previous
        )

    def step(self, action: float) -> float:
        """Set the next layer by an action in [-1, 1] and return the action executed.

        The executed action is the inverse map of the ratio that was set. It differs from `action`
        if the budget, a bound or rounding changed the ratio.

        Raises:
            ValueError: The action is not a number, or the episode is over.
        """
        if self.done:
            raise ValueError("every layer is set; call restart() to begin a new episode")
        if not np.isfinite(action):
            raise ValueError(f"action {action!r}: allowed is a number in [-1, 1]")
        i = self.layer
        least, most = self._interval()
        wanted = round(self._map.ratio(action, i) * int(self._weights[i]))
        self._zeros[i] = min(max(wanted, least), most)
        self._previous = self._map.action(float(self._zeros[i] / self._weights[i]), i)
        self._step += 1
        if self.done and self._last:
            self._zeros = project(
                self._zeros,
                budget=self._problem.budget,
                lower=self._problem.lower,
                upper=self._problem.upper,
                weights=self._weights,
            )
        return self._previous

    def _interval(self) -> tuple[int, int]:
        i, problem = self.layer, self._problem
        if not self._each:
            return int(problem.lower[i]), int(problem.upper[i])
        return feasible_interval(
            i, self._zeros, lower=problem.lower, upper=problem.upper, budget=problem.budget
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Trajectory:
    """A finished episode of T steps.

    Attributes:
        zeros: (L,) zero counts chosen.
        observations: (T + 1, F) observations before each step and after the last.
        actions: (T,) executed actions, in [-1, 1].
    """

    zeros: IntArray
    observations: Observation
    actions: NDArray[np.float64]


def run_episode(
    problem: AllocationProblem, action_map: ToRatio, *, choose: Callable[[Observation], float]
) -> Trajectory:
    """Run an episode; `choose` maps each observation to an action."""
    episode = Episode(problem, action_map)
    return _walk(episode, lambda observation: choose(observation))


def replay_episode(
    problem: AllocationProblem, action_map: ToRatio, *, zeros: IntArray
) -> Trajectory:
    """Replay a given profile as an episode, to use it as a demonstration.

    Args:
        problem: The problem.
        action_map: The problem's action map.
        zeros: (L,) zero counts; a profile within bounds and budget is replayed exactly, any
            other is clipped to the feasible intervals.
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
