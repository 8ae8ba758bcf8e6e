"""A policy for every target: walks the environment, and emits the profile the critic likes best."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from stable_baselines3.common.logger import Logger
from torch import Tensor

from agents.box import minimise
from agents.critic import CAUTIOUS, Observed, ProfileCritic
from agents.goal_ddpg import GoalDDPG
from agents.randomness import OwnRandomness
from agents.settle import Settling, scored_point, whole_profile
from envs import (
    AllocationProblem,
    FloatArray,
    IntArray,
    OffsetMap,
    PruningEnv,
    Score,
    log_densities,
)

__all__ = ["Emission", "ProfilePolicy"]

_BOX = 0.2


class Emission(NamedTuple):
    """A profile for a target.

    Attributes:
        zeros: (L,) zero counts.
        supplier: `agent`, the actor; `critic`, the critic's minimum near the best; `rescaled`, a
            known profile brought to the target; `prior`, the least sum of own divergences.
        divergence: What the critic predicts for the profile as it would be scored.
    """

    zeros: IntArray
    supplier: str
    divergence: float


class ProfilePolicy:
    """Agent and critic of one network, for any target.

    Args:
        problem: The problem of a target.
        goals: Makes the problem of another target; None for one target only.
        targets: Prune ratios that the actor is trained for; by default the problem's.
        seed: Seed of the agent.
        actor: False leaves the actor out, as a control.
        transferable: The actor has no free numbers per layer.
    """

    def __init__(
        self,
        problem: AllocationProblem,
        *,
        goals: Callable[[float], AllocationProblem] | None = None,
        targets: tuple[float, ...] = (),
        seed: int = 0,
        actor: bool = True,
        transferable: bool = False,
    ) -> None:
        self.problem, self.targets, self._actor = problem, targets, actor
        self._goals = goals
        self._env = PruningEnv(
            problem, OffsetMap.of, spend="last step", goals=goals, rewarded=False
        )
        self._random = OwnRandomness(seed)
        with self._random.active():
            layers = 0 if transferable else len(problem.layers)
            self.agent = GoalDDPG(env=self._env, layers=layers, targets=targets, seed=seed)
        self.agent.set_logger(Logger(None, []))

    def at(self, target: float) -> AllocationProblem:
        """The problem of a target."""
        if self._goals is None or target == self.problem.target:
            return self.problem
        return self._goals(target)

    @property
    def critic(self) -> ProfileCritic:
        """The critic as fitted last."""
        return self.agent.fitted or self.agent.refit()

    def observe(self, zeros: IntArray, score: Score) -> None:
        """Add a scored profile of any target."""
        self.agent.memory.remember(zeros, score)

    def recall(self, seen: Sequence[Observed]) -> None:
        """Add profiles that an earlier search scored."""
        self.agent.memory.seen.extend(seen)

    @property
    def seen(self) -> tuple[Observed, ...]:
        """The scored profiles, oldest first."""
        return tuple(self.agent.memory.seen)

    def actor_state(self) -> dict[str, Tensor]:
        """Copies of the actor's weights by name."""
        state = self.agent.actor.state_dict()
        return {name: value.detach().cpu().clone() for name, value in state.items()}

    def load_actor(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of another policy's actor.

        Raises:
            ValueError: Names or shapes differ.
        """
        own = self.agent.actor.state_dict()
        if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in state.items()}:
            raise ValueError("the actor's weights have other names or shapes")
        self.agent.actor.load_state_dict(state)

    def forget(self) -> None:
        """Drop the profiles, but not what the actor has learned from them."""
        self.agent.memory.seen.clear()

    def fit(self) -> None:
        """Fit the critic to all profiles."""
        self.agent.refit()

    def learn(self, updates: int) -> None:
        """Fit the critic, then take `updates` steps of the actor."""
        with self._random.active():
            self.agent.train(updates if self._actor else 0)

    def walk(
        self, target: float, *, noise: float = 0.0, rng: np.random.Generator | None = None
    ) -> IntArray:
        """The actor's profile: an episode of the environment, one step per layer.

        Args:
            target: Overall prune ratio.
            noise: Standard deviation of exploration, in units of the action.
            rng: Generator of the noise.
        """
        seen, _ = self._env.reset(options={"target": target})
        done, info = False, dict[str, Any]()
        while not done:
            action, _ = self.agent.predict(seen, deterministic=True)
            if rng is not None:
                action = action + rng.normal(0.0, noise, action.shape)
            seen, _, done, _, info = self._env.step(np.clip(action, -1.0, 1.0))
        zeros: IntArray = info["zeros"]
        return zeros

    def emit(self, target: float) -> list[Emission]:
        """Profiles for a target without a rollout, the one to take first.

        They are ordered by the predicted ln(divergence) plus one standard deviation, by a critic
        with `CAUTIOUS` settings. But the prior comes first, as the simplest, unless the best of the
        others is ahead of it by more than both deviations: predictions of profiles that the critic
        itself has chosen are optimistic. Known profiles are brought to the target by one factor.
        """
        problem, memory = self.at(target), self.agent.memory.seen
        critic = ProfileCritic.fit(self.agent.goal_space().curves, memory, CAUTIOUS)
        found = [("prior", whole_profile(OffsetMap.of(problem).base, problem))]
        if self._actor:
            found.append(("agent", self.walk(target)))
        if memory:
            known = Settling.of(problem)(np.stack([one.executed for one in memory]))
            best = known.executed[int(_risk(critic, known.scored).argmin())]
            found.append(("rescaled", whole_profile(best, problem)))
        risks = _risk(critic, np.stack([scored_point(zeros, problem) for _, zeros in found]))
        start = log_densities(found[int(risks.argmin())][1], problem.weights)
        points, _ = self.minimise(
            problem, starts=start[None], centre=start, radius=_BOX, critic=critic
        )
        found.append(("critic", whole_profile(points[0], problem)))
        scored = np.stack([scored_point(zeros, problem) for _, zeros in found])
        means, spread = critic(scored)[0], _spread(critic, scored)
        emitted = [
            Emission(zeros, supplier, float(value))
            for (supplier, zeros), value in zip(found, np.exp(means), strict=True)
        ]
        order = np.argsort(means + spread, kind="stable").tolist()
        if means[0] - means[order[0]] <= spread[0] + spread[order[0]]:
            order = [0, *(row for row in order if row)]  # level: the prior is the simplest
        return [emitted[row] for row in order]

    def minimise(
        self,
        problem: AllocationProblem,
        *,
        starts: FloatArray,
        centre: FloatArray,
        radius: float,
        tilts: FloatArray | float = 0.0,
        critic: ProfileCritic | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """Minimise a critic, by default that of the search, see `agents.box.minimise`."""
        return minimise(
            critic or self.critic,
            Settling.of(problem),
            starts=starts,
            centre=centre,
            radius=radius,
            moving=(problem.lower < problem.upper).astype(np.float64),
            tilts=tilts,
        )

    def state_bytes(self) -> bytes:
        """Serialise the actor and its random states; profiles are not in it."""
        agent, file = self.agent, io.BytesIO()
        state = {
            "actor": agent.actor.state_dict(),
            "optimizer": agent.actor.optimizer.state_dict(),
            "random": self._random.state(),
            "drawn": json.dumps(agent._drawn.bit_generator.state),
            "updates": agent._n_updates,
        }
        torch.save(state, file)
        return file.getvalue()

    def restore(self, data: bytes) -> None:
        """Continue from `state_bytes` of a policy with the same settings."""
        state, agent = torch.load(io.BytesIO(data), weights_only=True), self.agent
        agent.actor.load_state_dict(state["actor"])
        agent.actor.optimizer.load_state_dict(state["optimizer"])
        self._random.restore(state["random"])
        agent._drawn.bit_generator.state = json.loads(state["drawn"])
        agent._n_updates = state["updates"]


def _risk(critic: ProfileCritic, points: FloatArray) -> FloatArray:
    """(M,) predicted ln(divergence) plus its deviation."""
    risk: FloatArray = critic(points)[0] + _spread(critic, points)
    return risk


def _spread(critic: ProfileCritic, points: FloatArray) -> FloatArray:
    """(M,) deviation of ln(divergence); 0 where it is unknown, which is the same for all."""
    return np.zeros(len(points)) if critic.residual is None else critic.deviation(points)
