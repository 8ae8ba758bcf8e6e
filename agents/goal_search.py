"""The `optimal` search: a goal-conditioned agent, and a critic taught by slopes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.bayesian import BayesianSearch
from agents.critic import Observed
from agents.forecasts import Forecast
from agents.profile_policy import ProfilePolicy
from agents.proposer import SEED, Proposal, Trial, ranked
from agents.settle import scored_point, whole_profile
from envs import AllocationProblem, FloatArray, log_densities
from ws_learner.core import say

__all__ = ["GoalSearch"]

_RADIUS, _SMALLEST, _LARGEST = 0.35, 0.12, 0.6
_GROWS, _SHRINKS = 1.2, 0.7
_TILT = 0.07
_OWN_SHARE = 0.25
_GOLDEN = (5**0.5 - 1) / 2


class GoalSearch:
    """Proposes what the critic likes best, from where the actor and the best profile stand.

    In every round the critic is fitted to all rollouts, and the actor takes a few steps along its
    gradient. Then, at one target:

    - the first proposal is the critic's minimum in a box around the best profile, from the best
      profile (kind `critic`) or from the actor's (`agent`), whichever is predicted better;
    - others are the same with the critic's slopes tilted at random, as much as they are
      uncertain (`critic`). The box grows with success and shrinks with failure;
    - half are those of `BayesianSearch` (`model`), which has no box.

    With `targets` one search serves them all: each proposal is for the next target of a
    golden-ratio sequence, and every other one is tilted. The last quarter of the rollouts goes to
    the problem's own target, as above.

    Args:
        problem: The allocation problem.
        seed: Seed of agent and proposals.
        rollouts: Number of trials in total.
        goals: Makes the problem of another target.
        targets: Prune ratios of a search for many targets; empty for the problem's own.
        updates: Actor steps in a round.
        actor: False leaves the actor out, as a control.
        model: False leaves the proposals of `BayesianSearch` out, as a control.
        earlier: Profiles that an earlier search on this network scored. They teach the critic, but
            are no trials of this search.
        actor_state: Weights that the actor starts from.
        transferable: The actor has no free numbers per layer, so that `actor_state` may come from
            another network.

    Attributes:
        policy: Agent and critic.
        forecasts: What the critic, as it was before its round, predicts for each rollout.

    Raises:
        ValueError: The problem is not `exact`.
    """

    def __init__(
        self,
        problem: AllocationProblem,
        *,
        seed: int,
        rollouts: int,
        goals: Callable[[float], AllocationProblem] | None = None,
        targets: tuple[float, ...] = (),
        updates: int = 40,
        actor: bool = True,
        model: bool = True,
        earlier: Sequence[Observed] = (),
        actor_state: Mapping[str, Tensor] | None = None,
        transferable: bool = False,
    ) -> None:
        if not problem.exact:
            raise ValueError(
                "`exact` False: the goal-conditioned search is for a fixed total; take "
                "`SurrogateSearch`, or `ws_reward_type` single-obj"
            )
        self._problem, self._seed, self._rollouts = problem, seed, rollouts
        self._updates, self._actor = updates, actor
        self.policy = ProfilePolicy(
            problem,
            goals=goals,
            targets=targets,
            seed=seed,
            actor=actor,
            transferable=transferable,
        )
        if actor_state is not None:
            self.policy.load_actor(actor_state)
        self._earlier = tuple(earlier)
        self.policy.recall(self._earlier)
        self.forecasts: list[Forecast] = []
        self._model = BayesianSearch(problem, seed=seed) if model else None
        self._known = 0  # trials the policy has seen
        self._fitted = 0  # trials it had seen when it was saved

    def learn(self, history: Sequence[Trial]) -> None:
        """Record how the critic would have predicted what is new, then teach critic and actor."""
        if not self._known and self._fitted:  # resumed: as it was before the last round
            self._observe(history[: self._fitted])
            self.policy.fit()
        if self._known:
            self._forecast(history[self._known :])
        self._observe(history[self._known :])
        self.policy.learn(self._updates)

    def _observe(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            self.policy.observe(trial.zeros, trial.score)
        self._known += len(trials)

    def _forecast(self, new: Sequence[Trial]) -> None:
        if not new:
            return
        critic, known = self.policy.critic, self._known
        points = np.stack([scored_point(trial.zeros, self._problem) for trial in new])
        found = zip(critic(points)[0].tolist(), critic.deviation(points).tolist(), strict=True)
        self.forecasts += [Forecast(known, place, *pair) for place, pair in enumerate(found)]

    def propose(self, history: Sequence[Trial], count: int) -> list[Proposal]:
        """Teach critic and actor, then return up to `count` profiles."""
        self.learn(history)
        left = self._rollouts - len(history) - math.ceil(_OWN_SHARE * self._rollouts)
        if self.policy.targets and left > 0:
            numbers = range(len(history), len(history) + min(count, left))
            return [self._near(self._goal(number), history, 1, number)[0] for number in numbers]
        here = [trial for trial in history if trial.zeros.sum() == self._problem.budget]
        by_model = (count + len(history) % 2) // 2 if here and self._model else 0
        near = count - by_model
        found = self._near(self._problem, history, near, len(history)) if near else []
        if self._model and by_model:
            found += self._model.propose(here, by_model)
        return found

    def _goal(self, number: int) -> AllocationProblem:
        """The problem of a rollout in a search for many targets, by the golden ratio."""
        targets = self.policy.targets
        return self.policy.at(targets[int(number * _GOLDEN % 1.0 * len(targets))])

    def _near(
        self, problem: AllocationProblem, history: Sequence[Trial], count: int, number: int
    ) -> list[Proposal]:
        """Minima of the critic near the best profile of a target, `count` of them."""
        rng = np.random.default_rng([self._seed, number])
        here = [trial for trial in history if trial.zeros.sum() == problem.budget]
        centre = self._centre(problem, here)
        own = [self.policy.walk(problem.target)] if self._actor else []
        starts = [centre, *(log_densities(zeros, problem.weights) for zeros in own)]
        tilts = _TILT * rng.normal(size=(count, len(centre)))
        points, values = self.policy.minimise(
            problem,
            starts=np.stack([*starts, *([centre] * count)]),
            centre=centre,
            radius=_radius(here),
            tilts=np.concatenate([np.zeros((len(starts), len(centre))), tilts]),
        )
        first = int(values[: len(starts)].argmin())
        rows = [first, *range(len(starts), len(points))]
        if self.policy.targets and count == 1 and number % 2:  # every other one is tilted
            rows = rows[1:]
        return [
            Proposal(
                "agent" if row == first == 1 else "critic", whole_profile(points[row], problem)
            )
            for row in rows[:count]
        ]

    def _centre(self, problem: AllocationProblem, here: Sequence[Trial]) -> FloatArray:
        """The best profile of the target; before there is one, what the policy emits."""
        zeros = ranked(here)[0].zeros if here else self.policy.emit(problem.target)[0].zeros
        return log_densities(zeros, problem.weights)

    def state(self) -> dict[str, Any]:
        """Return the actor's state, earlier profiles and forecasts; the history is kept apart."""
        parts = ("point", "executed", "value", "slopes")
        seen = self._earlier
        kept = {part: np.array([getattr(one, part) for one in seen]) for part in parts}
        return {
            "goal_agent": self.policy.state_bytes(),
            "earlier": {part: torch.from_numpy(rows) for part, rows in kept.items()},
            "forecasts": torch.tensor(self.forecasts, dtype=torch.float64),
            "fitted": self._known or self._fitted,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a saved agent; one of another kind is left, and the actor starts anew."""
        if "goal_agent" in state:
            self.policy.restore(state["goal_agent"])
        else:
            say("the search was begun by another agent: its rollouts count, and the actor is new")
        if "earlier" in state:
            kept = {part: rows.numpy() for part, rows in state["earlier"].items()}
            self._earlier = tuple(
                Observed(point=point, executed=executed, value=float(value), slopes=slopes)
                for point, executed, value, slopes in zip(*kept.values(), strict=True)
            )
        rows = state["forecasts"].tolist() if "forecasts" in state else []
        self.forecasts = [Forecast(int(a), int(b), mean, sd) for a, b, mean, sd in rows]
        self._fitted = state.get("fitted", 0)
        self.policy.forget()
        self.policy.recall(self._earlier)
        self._known = 0


def _radius(history: Sequence[Trial]) -> float:
    """Half the side of the box, after the successes and failures so far."""
    radius, best = _RADIUS, -np.inf
    for trial in history:
        better = not trial.score.failed and trial.score.reward > best
        best = trial.score.reward if better else best
        if trial.kind != SEED:
            radius = float(np.clip(radius * (_GROWS if better else _SHRINKS), _SMALLEST, _LARGEST))
    return radius
