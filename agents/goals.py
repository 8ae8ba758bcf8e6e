"""The targets an agent is trained for: their budgets, priors, observations and predicted losses."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.critic import ProfileCritic
from agents.settle import Settling
from envs import AllocationProblem, Episode, FloatArray, OffsetMap, OwnCurves, PruningEnv

__all__ = ["GoalSpace", "curves_of"]

TRUSTED = 0.35
"""Root mean square distance from a known profile, in ln density, up to which nothing pulls back."""
STEEPEST = 1.5


def curves_of(problem: AllocationProblem) -> OwnCurves:
    """Own divergences of a problem, or its error curves where they are unknown."""
    if problem.own is not None and problem.own_densities is not None:
        return OwnCurves(problem.own_densities, problem.own, problem.weights)
    inside = (problem.curve_ratios > 0) & (problem.curve_ratios < 1)
    densities = np.concatenate([[0.0], (1 - problem.curve_ratios[inside])[::-1]])
    errors = problem.curves[:, inside][:, ::-1]
    values = np.concatenate([np.ones((len(errors), 1)), errors], 1)
    return OwnCurves(densities, values / len(errors), problem.weights)


class GoalSpace:
    """T targets of one network.

    Args:
        env: The environment; a running episode goes on.
        targets: Prune ratios.

    Attributes:
        targets: Prune ratios.
        curves: The layers' own divergences.
        free: (D,) layers that have a choice.
        observations: (T, D, F) their observations.

    Raises:
        ValueError: The environment's actions are not offsets.
    """

    def __init__(self, env: PruningEnv, targets: tuple[float, ...]) -> None:
        self.targets = targets
        seen, budgets, bases, reach = [], [], [], 0.0
        for target in targets:
            problem, offsets = env.at(target)
            if not isinstance(offsets, OffsetMap):
                raise ValueError(
                    f"action map {type(offsets).__name__}: the agent needs an environment with "
                    "`action_map=OffsetMap.of`"
                )
            seen.append(_observations(problem, offsets))
            budgets.append(Settling.of(problem))
            bases.append(offsets.base)
            reach = offsets.reach
        self.free = np.flatnonzero(env.problem.lower < env.problem.upper)
        self.curves = curves_of(env.problem)
        self.observations = torch.from_numpy(np.stack(seen))
        self._budgets = Settling.stack(budgets)
        self._bases, self._reach = torch.from_numpy(np.stack(bases)), reach

    def wanted(self, rows: NDArray[np.int64], actions: Tensor) -> Tensor:
        """(M, L) ln densities that actions (M, D) ask for at the targets `rows`."""
        offsets = torch.zeros(len(rows), self._bases.shape[1], dtype=torch.float64)
        offsets[:, self.free] = -self._reach * actions.double()
        return self._bases[rows] + offsets

    def loss(
        self,
        rows: NDArray[np.int64],
        wanted: FloatArray,
        critic: ProfileCritic,
        *,
        known: FloatArray,
    ) -> tuple[float, FloatArray]:
        """Mean predicted ln(divergence), and its gradient (M, L) by the wanted ln densities.

        Beyond `TRUSTED` of the nearest known profile (N, L) a pull leads back. Its slope is 1 per
        unit of root mean square distance.
        """
        budgets = self._budgets.rows(rows)
        settled = budgets(wanted)
        mean, slopes = critic(settled.scored)
        slopes = np.clip(slopes, -STEEPEST, STEEPEST) + _pull(settled.scored, known)
        return float(mean.mean()), budgets.back(settled, slopes)


def _pull(points: FloatArray, known: FloatArray) -> FloatArray:
    """(M, L) gradient of the distance beyond `TRUSTED` from the nearest known profile."""
    apart = points[:, None] - known
    lengths = np.sqrt((apart**2).mean(-1))
    nearest, every = lengths.argmin(1), np.arange(len(points))
    length = lengths[every, nearest][:, None]
    direction = apart[every, nearest] / np.maximum(length, 1e-9) / points.shape[1]
    pull: FloatArray = direction * (length > TRUSTED)
    return pull


def _observations(problem: AllocationProblem, offsets: OffsetMap) -> NDArray[np.float32]:
    """(D, F) observations of an episode at the prior."""
    episode, rows = Episode(problem, offsets, spend="last step"), []
    while not episode.done:
        rows.append(episode.observation)
        episode.step(0.0)
    return np.stack(rows)
