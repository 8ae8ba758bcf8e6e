"""The DDPG agent's interface for a search: act, observe, learn, save and restore."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.logger import Logger

from agents.ddpg import DDPG
from agents.ddpg_config import DDPGConfig
from agents.randomness import OwnRandomness
from agents.replay import ReturnBuffer

__all__ = ["DDPGAgent", "Transition", "transitions"]

Observation = NDArray[np.float32]


class Transition(NamedTuple):
    """One step of a rollout.

    `action` is the one executed, in [-1, 1]; `done` marks the last step.
    """

    observation: Observation
    action: float
    reward: float
    next_observation: Observation
    done: bool


def transitions(
    observations: Observation, actions: NDArray[np.float64], *, reward: float
) -> list[Transition]:
    """Split an episode of T steps into transitions; the last one carries the reward.

    Args:
        observations: (T + 1, F) observations before each step and after the last.
        actions: (T,) executed actions, in [-1, 1].
        reward: Reward of the episode.
    """
    last = len(actions) - 1
    return [
        Transition(
            observations[t],
            float(actions[t]),
            reward if t == last else 0.0,
            observations[t + 1],
            t == last,
        )
        for t in range(len(actions))
    ]


class _Spaces(gymnasium.Env[Observation, NDArray[np.float32]]):
    """Declares observation and action space for stable-baselines3; it is never stepped."""

    def __init__(self, observation_size: int) -> None:
        self.observation_space = spaces.Box(-1.0, 1.0, (observation_size,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)


class DDPGAgent:
    """DDPG agent: one action in [-1, 1] per observation, trained on complete rollouts.

    It has a private random state: the same calls give the same results whatever else the process
    draws. Training resumed by `state_bytes` and `restore` is bit-identical.

    Example:
        >>> agent = DDPGAgent(3, config=DDPGConfig(ddpg_nb_updates=1), seed=0)
        >>> see = np.zeros((2, 3), np.float32)
        >>> action = agent.act(see[0], explore=True)
        >>> agent.observe(transitions(see, np.array([action]), reward=0.5))
        >>> agent.learn()
        >>> agent.rollouts
        1

    Args:
        observation_size: Number of entries of an observation.
        config: Settings.
        seed: Seed of networks, exploration and replay sampling.
    """

    def __init__(
        self, observation_size: int, *, config: DDPGConfig | None = None, seed: int = 0
    ) -> None:
        self.config = config or DDPGConfig()
        self.rollouts = 0
        self._random = OwnRandomness(seed)
        with self._random.active():
            self._model = DDPG(env=_Spaces(observation_size), config=self.config, seed=seed)
        self._model.set_logger(Logger(None, []))
        self._model.policy.set_training_mode(False)

    @property
    def _buffer(self) -> ReturnBuffer:
        assert isinstance(self._model.replay_buffer, ReturnBuffer)
        return self._model.replay_buffer

    def act(self, observation: Observation, *, explore: bool) -> float:
        """Return an action in [-1, 1]; without `explore`, the actor's output without noise."""
        with self._random.active(), torch.no_grad():
            greedy = self._model.actor(torch.as_tensor(observation[None])).numpy()
        if not explore:
            return float(greedy[0, 0])
        return float(self._model.explore(greedy, rollout=self.rollouts)[0, 0])

    def observe(self, trajectory: Sequence[Transition], *, demonstration: bool = False) -> None:
        """Store a complete rollout in the replay buffer.

        Args:
            trajectory: Its transitions in order; only the last one has `done` set.
            demonstration: True for a rollout the agent did not choose. It is learned from, but
                does not advance the exploration schedule.

        Raises:
            ValueError: The rollout is incomplete, or a reward is not finite.
        """
        last = len(trajectory) - 1
        if last < 0 or any(t.done != (i == last) for i, t in enumerate(trajectory)):
            raise ValueError("a trajectory must be one whole rollout, done at its last step only")
        rewards = [t.reward for t in trajectory]
        if not np.isfinite(rewards).all():
            raise ValueError(f"rewards {rewards}: allowed are finite numbers")
        for t in trajectory:
            self._buffer.add(
                t.observation[None],
                t.next_observation[None],
                np.array([[t.action]], np.float32),
                np.array([t.reward], np.float32),
                np.array([t.done], np.float32),
                [{}],
            )
        self.rollouts += not demonstration

    def learn(self, updates: int | None = None) -> None:
        """Make `updates` gradient steps (default: `ddpg_nb_updates`); none if there is no data."""
        count = self.config.ddpg_nb_updates if updates is None else updates
        if self._buffer.size() == 0 or count == 0:
            return
        with self._random.active():
            self._model.train(count, batch_size=self.config.ddpg_batch_size)
        self._model.policy.set_training_mode(False)

    def state_bytes(self) -> bytes:
        """Serialise the agent between two rollouts; write the bytes to a file unchanged."""
        file = io.BytesIO()
        torch.save(
            {
                "config": json.dumps(dataclasses.asdict(self.config), sort_keys=True),
                "networks": {name: part.state_dict() for name, part in self._parts().items()},
                "buffer": self._buffer.state(),
                "random": self._random.state(),
                "exploration": json.dumps(self._model.exploration.bit_generator.state),
                "rollouts": self.rollouts,
                "updates": self._model._n_updates,
            },
            file,
        )
        return file.getvalue()

    def restore(self, data: bytes) -> None:
        """Restore the agent saved by `state_bytes`.

        Raises:
            ValueError: The saved agent has other settings or another observation size.
        """
        state = torch.load(io.BytesIO(data), weights_only=True)
        if json.loads(state["config"]) != dataclasses.asdict(self.config):
            raise ValueError(f"the saved agent has other settings: {state['config']}")
        for name, part in self._parts().items():
            part.load_state_dict(state["networks"][name])
        self._buffer.restore(state["buffer"])
        self._random.restore(state["random"])
        self._model.exploration.bit_generator.state = json.loads(state["exploration"])
        self.rollouts, self._model._n_updates = state["rollouts"], state["updates"]

    def _parts(self) -> dict[str, Any]:
        """Networks and optimizers by name."""
        model = self._model
        return {
            "actor": model.actor,
            "actor_target": model.actor_target,
            "critic": model.critic,
            "critic_target": model.critic_target,
            "actor_optimizer": model.actor.optimizer,
            "critic_optimizer": model.critic.optimizer,
        }
