"""Replay buffer with observed returns: baseline, normalisation and mixed critic targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from agents.ddpg_config import DDPGConfig

__all__ = ["ReturnBuffer"]

_ARRAYS = (
    *("observations", "next_observations", "actions", "rewards", "dones", "timeouts"),
    *("_returns", "_to_go", "_ended"),
)
_NUMBERS = ("pos", "full", "_mean", "_variance", "_episodes")


class ReturnBuffer(ReplayBuffer):
    """Replay buffer of whole episodes of one environment.

    Sampled rewards and discounts are changed so that the critic's usual target becomes a mix of
    observed return G and bootstrap, with weight w = `ddpg_mixed_return`:

        r'     = w G + (1 - w) r,   gamma' = (1 - w) gamma

    Before that, a terminal reward is reduced by the moving average of returns, and every reward is
    divided by their moving standard deviation. (PocketFlow subtracts the average from
    every reward; with a single reward at the end, the critic would then learn the number of layers
    left.) Both happen on sampling, so old transitions use the newest statistics. With a baseline,
    the length of an episode must not depend on the actions. An episode truncated by a time limit
    has no observed return: its transitions use the bootstrap only.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device | str = "cpu",
        n_envs: int = 1,
        *,
        config: DDPGConfig,
        **options: Any,
    ) -> None:
        if n_envs != 1:
            raise ValueError(f"n_envs {n_envs}: a return buffer serves one environment")
        super().__init__(buffer_size, observation_space, action_space, device, n_envs, **options)
        self._config = config
        self._returns = np.zeros(self.buffer_size, np.float64)  # discounted, from here to the end
        self._to_go = np.zeros(self.buffer_size, np.float64)  # transitions after this one
        self._ended = np.zeros(self.buffer_size, bool)  # the episode terminated
        self._open: list[tuple[int, float]] = []  # position and reward, of the running episode
        self._mean, self._variance, self._episodes = 0.0, 0.0, 0

    @property
    def baseline(self) -> float:
        """Moving average of returns; 0 if the baseline is off."""
        return self._mean if self._config.ddpg_enbl_bsln_func else 0.0

    @property
    def scale(self) -> float:
        """Moving standard deviation of returns; 1 if scaling is off or no return is known."""
        known = self._config.ddpg_enbl_rtrn_norm and self._variance > 1e-16
        return float(np.sqrt(self._variance)) if known else 1.0

    def add(
        self,
        obs: NDArray[Any],
        next_obs: NDArray[Any],
        action: NDArray[Any],
        reward: NDArray[Any],
        done: NDArray[Any],
        infos: list[dict[str, Any]],
    ) -> None:
        """Add one transition; at the end of an episode, compute its returns."""
        self._open.append((self.pos, float(reward[0])))
        self._ended[self.pos] = False
        super().add(obs, next_obs, action, reward, done, infos)
        if done[0]:
            self._close(own_end=not infos[0].get("TimeLimit.truncated", False))

    def _close(self, *, own_end: bool) -> None:
        value = 0.0
        for steps, (position, reward) in enumerate(reversed(self._open)):
            value = reward + self._config.ddpg_gamma * value
            if steps < self.buffer_size:  # else the episode has overwritten its beginning
                self._returns[position], self._to_go[position] = value, steps
                self._ended[position] = own_end
        self._open.clear()
        # First a plain average, then a moving one, so the first return does not dominate.
        self._episodes += 1
        share = max(1.0 - self._config.ddpg_bsln_decy_rate, 1.0 / self._episodes)
        offset = value - self._mean
        self._mean += share * offset
        self._variance = (1.0 - share) * (self._variance + share * offset**2)

    def _get_samples(
        self, batch_inds: NDArray[Any], env: VecNormalize | None = None
    ) -> ReplayBufferSamples:
        samples = super()._get_samples(batch_inds, env)
        gamma, baseline = self._config.ddpg_gamma, self.baseline
        mix = np.where(self._ended[batch_inds], self._config.ddpg_mixed_return, 0.0)
        returns = self._returns[batch_inds] - gamma ** self._to_go[batch_inds] * baseline
        one_step = samples.rewards.numpy()[:, 0] - samples.dones.numpy()[:, 0] * baseline
        rewards = (mix * returns + (1.0 - mix) * one_step) / self.scale
        return samples._replace(
            rewards=torch.tensor(rewards, dtype=torch.float32)[:, None],
            discounts=torch.tensor((1.0 - mix) * gamma, dtype=torch.float32)[:, None],
        )

    def state(self) -> dict[str, Any]:
        """Return the stored transitions as tensors and numbers; only between episodes.

        Raises:
            ValueError: An episode is running.
        """
        if self._open:
            raise ValueError("an episode is running: save between rollouts")
        filled = self.buffer_size if self.full else self.pos
        # Cloned: a view would save the whole, mostly empty buffer.
        arrays = {name: torch.from_numpy(getattr(self, name)[:filled].copy()) for name in _ARRAYS}
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        return {"arrays": arrays, "numbers": numbers}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state()` returned."""
        for name, values in state["arrays"].items():
            getattr(self, name)[: len(values)] = values.numpy()
        for name in _NUMBERS:
            setattr(self, name, state["numbers"][name])
        self._open.clear()
