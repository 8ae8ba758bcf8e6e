"""DDPG on stable-baselines3, with exploration and critic targets for a ratio search."""

from __future__ import annotations

from typing import Any

import numpy as np
import stable_baselines3
import torch
from numpy.typing import NDArray
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.td3.policies import TD3Policy

from agents.ddpg_config import DDPGConfig
from agents.exploration import truncated_normal
from agents.replay import ReturnBuffer

__all__ = ["DDPG"]

_FINAL_LAYER = 3e-3  # Lillicrap et al., supplementary material, section 7


class DDPG(stable_baselines3.DDPG):
    """Deep deterministic policy gradient (Lillicrap et al., ICLR 2016, arXiv:1509.02971).

    Trains on any Gymnasium environment with a Box action space by the inherited `learn()`: one
    rollout, then `ddpg_nb_updates` updates. It differs from stable-baselines3's class in:

    - exploration: a truncated normal around the actor's output (He et al., ECCV 2018, section
      3.3) whose spread depends on the number of finished rollouts. Actions are uniform in the first
      `ddpg_nb_rlouts_rand` rollouts. A separate random generator is used;
    - separate learning rates for the actor and the critics;
    - `ReturnBuffer`: baseline and normalisation of returns, mixed critic targets;
    - the last layer of every network is initialised within 0.003 of 0, so the first actions are
      near 0, which stands for the prior ratios in a pruning environment.

    Args:
        policy: Name of the policy, or its class.
        env: The environment, or its registered name.
        config: Settings of the agent.
        seed: Seeds networks, exploration and the environment.
        device: Device of the networks; small networks are fastest on the CPU.
        options: Further arguments of stable-baselines3's class.
    """

    def __init__(
        self,
        policy: str | type[TD3Policy] = "MlpPolicy",
        env: GymEnv | str | None = None,
        *,
        config: DDPGConfig | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        **options: Any,
    ) -> None:
        self.config = config or DDPGConfig()
        self.exploration = np.random.default_rng(seed)
        actor = [self.config.ddpg_actor_width] * self.config.ddpg_actor_depth
        critic = [self.config.ddpg_critic_width] * self.config.ddpg_critic_depth
        usual = {
            "learning_starts": 0,
            "train_freq": (1, "episode"),
            "gradient_steps": self.config.ddpg_nb_updates,
            "buffer_size": self.config.ddpg_buffer_size,
            "batch_size": self.config.ddpg_batch_size,
            "tau": self.config.ddpg_tau,
            "gamma": self.config.ddpg_gamma,
            "replay_buffer_class": ReturnBuffer,
            "replay_buffer_kwargs": {"config": self.config},
            "policy_kwargs": {
                "net_arch": {"pi": actor, "qf": critic},
                "n_critics": self.config.ddpg_nb_critics,
                "optimizer_kwargs": {"fused": True},  # one kernel, not one per tensor
            },
        }
        super().__init__(policy, env, seed=seed, device=device, **(usual | options))  # type: ignore[arg-type]

    def _setup_model(self) -> None:
        super()._setup_model()
        for network in (self.actor, self.critic):
            self._start_near_zero(network)
        self.actor_target.load_state_dict(self.actor.state_dict())
        self.critic_target.load_state_dict(self.critic.state_dict())
        self._update_learning_rate([])

    @staticmethod
    def _start_near_zero(network: torch.nn.Module) -> None:
        for chain in network.modules():
            if isinstance(chain, torch.nn.Sequential):
                last = [layer for layer in chain if isinstance(layer, torch.nn.Linear)][-1]
                torch.nn.init.uniform_(last.weight, -_FINAL_LAYER, _FINAL_LAYER)
                torch.nn.init.zeros_(last.bias)

    def _update_learning_rate(self, optimizers: Any) -> None:
        """Keep separate learning rates; stable-baselines3 would set one for all optimizers."""
        for network, rate in (
            (self.actor, self.config.ddpg_lrn_rate_actor),
            (self.critic, self.config.ddpg_lrn_rate_critic),
        ):
            for group in network.optimizer.param_groups:
                group["lr"] = rate

    def explore(self, mean: NDArray[Any], *, rollout: int) -> NDArray[np.float32]:
        """Draw actions in [-1, 1] for rollout number `rollout`.

        Args:
            mean: The actor's output, (..., A).
            rollout: Number of finished rollouts.

        Returns:
            Actions with the shape of `mean`.
        """
        if rollout < self.config.ddpg_nb_rlouts_rand:
            return self.exploration.uniform(-1.0, 1.0, mean.shape).astype(np.float32)
        std = self.config.noise.std(rollout)
        return truncated_normal(mean, std, rng=self.exploration).astype(np.float32)

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the action to take, and the same scaled to [-1, 1] for the buffer."""
        assert self._last_obs is not None
        greedy, _ = self.predict(self._last_obs, deterministic=True)
        scaled = self.explore(self.policy.scale_action(greedy), rollout=self._episode_num)
        return self.policy.unscale_action(scaled), scaled
