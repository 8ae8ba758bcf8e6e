"""Goal-conditioned DDPG whose critic is structured and taught by slopes."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import stable_baselines3
import torch
from numpy.typing import NDArray
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.type_aliases import GymEnv

from agents.critic import ProfileCritic
from agents.goals import GoalSpace
from agents.layer_actor import GoalPolicy
from agents.profile_buffer import ProfileBuffer
from envs import FloatArray, PruningEnv

__all__ = ["GoalDDPG"]

_GOALS = 6  # targets of one actor step


class GoalDDPG(stable_baselines3.DDPG):
    """Deterministic policy gradient for all targets of a pruning environment.

    It is stable-baselines3's DDPG: an actor, rollouts with noise, a buffer that all goals share,
    and the actor's gradient through a critic (Silver et al., ICML 2014, theorem 1). What differs
    is the critic. Lillicrap et al. (ICLR 2016) bootstrap a network from single transitions. Here
    `ProfileCritic` predicts the divergence of a whole profile, is fitted in closed form to the
    buffer, and knows observed slopes. So there are no target networks.

    The gradient of the predicted ln(divergence) comes back to the actions of all layers through
    the two factors that bring a profile onto its budget (`Settling.back`).

    Example:
        >>> env = PruningEnv(problem, OffsetMap.of, spend="last step")  # doctest: +SKIP
        >>> agent = GoalDDPG(env=env).learn(40 * 22)  # doctest: +SKIP

    Args:
        policy: The policy's class.
        env: A `PruningEnv` with `spend` "last step" and `OffsetMap.of`, or a wrapper or vector of
            one. `load` needs none to predict.
        layers: Layers with free numbers in the actor, see `LayerActor`.
        targets: Prune ratios that the actor is trained for; by default the environment's. `learn`
            begins each episode with one of them.
        noise: Standard deviation of exploration in `learn`, in units of the action.
        updates: Actor steps after each episode in `learn`.
        lrn_rate: Learning rate of the actor (Adam).
        seed: Seed of networks and exploration.
        device: Device of the actor.
        options: Further arguments of stable-baselines3's class.
    """

    policy_aliases: ClassVar[dict[str, Any]] = {"MlpPolicy": GoalPolicy}

    def __init__(
        self,
        policy: str | type[GoalPolicy] = GoalPolicy,
        env: GymEnv | str | None = None,
        *,
        layers: int = 0,
        targets: tuple[float, ...] = (),
        noise: float = 0.08,
        updates: int = 60,
        lrn_rate: float = 3e-3,
        seed: int | None = 0,
        device: torch.device | str = "cpu",
        **options: Any,
    ) -> None:
        wrong = [target for target in targets if not 0 < target < 1]
        if wrong:
            raise ValueError(f"targets {wrong}: must be prune ratios between 0 and 1")
        self.targets = targets
        self.fitted: ProfileCritic | None = None
        self._goal_space: GoalSpace | None = None
        self._drawn = np.random.default_rng(seed)
        usual: dict[str, Any] = {
            "learning_rate": lrn_rate,
            "learning_starts": 0,
            "train_freq": (1, "episode"),
            "gradient_steps": updates,
            "buffer_size": 10_000,
            "replay_buffer_class": ProfileBuffer,
            "policy_kwargs": {"layers": layers},
            "action_noise": NormalActionNoise(np.zeros(1), np.full(1, noise)),
        }
        super().__init__(policy, env, seed=seed, device=device, **(usual | options))  # type: ignore[arg-type]

    def _setup_model(self) -> None:
        super()._setup_model()
        self.targets = tuple(self.targets)  # a saved agent has a list
        self._connect()

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """Use another environment; if it is of another network, the profiles seen are dropped."""
        super().set_env(env, force_reset)
        self._goal_space = None
        self._connect()

    def _connect(self) -> None:
        if self.env is not None and self.replay_buffer is not None:
            self.memory.interpret(self.pruning_env().problem)

    def load_replay_buffer(self, *args: Any, **options: Any) -> None:
        """Load a buffer with its profiles, see stable-baselines3."""
        super().load_replay_buffer(*args, **options)
        self._connect()

    @property
    def memory(self) -> ProfileBuffer:
        """The buffer."""
        assert isinstance(self.replay_buffer, ProfileBuffer)
        return self.replay_buffer

    def pruning_env(self) -> PruningEnv:
        """The environment without wrappers."""
        assert self.env is not None
        found: PruningEnv = self.env.get_attr("unwrapped", 0)[0]
        return found

    def goal_space(self) -> GoalSpace:
        """Budgets, priors and observations of the targets that are trained."""
        if self._goal_space is None:
            env = self.pruning_env()
            self._goal_space = GoalSpace(env, self.targets or (env.problem.target,))
        return self._goal_space

    def refit(self) -> ProfileCritic:
        """Fit the critic to the buffer."""
        self.fitted = ProfileCritic.fit(self.goal_space().curves, self.memory.seen)
        return self.fitted

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Fit the critic to all profiles, then take `gradient_steps` steps of the actor."""
        critic = self.refit()
        if not self.memory.seen or not gradient_steps:
            return
        goals, known = self.goal_space(), np.stack([one.point for one in self.memory.seen])
        self.policy.set_training_mode(True)
        losses = []
        for _ in range(gradient_steps):
            self._n_updates += 1
            rows = self._drawn.permutation(len(goals.targets))[:_GOALS]
            losses.append(self._actor_step(critic, goals, rows, known))
        self.policy.set_training_mode(False)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/actor_loss", float(np.mean(losses)))

    def _actor_step(
        self, critic: ProfileCritic, goals: GoalSpace, rows: NDArray[np.int64], known: FloatArray
    ) -> float:
        seen = goals.observations[rows].flatten(0, 1).to(self.device)
        wanted = goals.wanted(rows, self.actor(seen).reshape(len(rows), -1).cpu())
        loss, gradient = goals.loss(rows, wanted.detach().numpy(), critic, known=known)
        self.actor.optimizer.zero_grad()
        torch.autograd.backward(wanted, torch.from_numpy(gradient / len(rows)))
        self.actor.optimizer.step()
        return loss

    def _store_transition(self, *args: Any, **options: Any) -> None:
        super()._store_transition(*args, **options)
        dones = options.get("dones", args[4] if len(args) > 4 else ())
        if len(self.targets) > 1 and np.any(dones):  # for the episode after the one just begun
            assert self.env is not None
            target = self.targets[int(self._drawn.integers(len(self.targets)))]
            self.env.env_method("aim", target)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_goal_space", "fitted"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "actor.optimizer"], []
