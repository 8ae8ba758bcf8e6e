"""Settings of the DDPG agent. Imports no torch, so the command line can list them quickly."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agents.exploration import NoiseSchedule
from ws_learner.core import FitsUnset, UnsetRule, check_settings, complain

__all__ = ["DDPGConfig"]


@dataclass(frozen=True, kw_only=True)
class DDPGConfig(FitsUnset):
    """Settings of the agent; names as in PocketFlow where it has them.

    Attributes:
        ddpg_actor_depth: Number of hidden layers of the actor.
        ddpg_actor_width: Units of each hidden layer of the actor.
        ddpg_critic_depth: Number of hidden layers of each critic.
        ddpg_critic_width: Units of each hidden layer of a critic.
        ddpg_nb_critics: Number of critics; their minimum is the target. 2 reduces over-estimation
            (Fujimoto et al., ICML 2018).
        ddpg_tau: Soft-update rate of the target networks.
        ddpg_gamma: Discount factor. At 1 a layer's value does not depend on its position.
        ddpg_mixed_return: Share of the observed return in the critic's target; the rest is the
            one-step bootstrap (Ostrovski et al., ICML 2017). The reward comes at the last layer
            only; the return propagates it to all layers in one update.
        ddpg_lrn_rate_actor: Learning rate of the actor (Adam).
        ddpg_lrn_rate_critic: Learning rate of the critics (Adam).
        ddpg_batch_size: Transitions per update.
        ddpg_buffer_size: Capacity of the replay buffer, in transitions; the oldest are dropped.
        ddpg_nb_updates: Updates after each rollout.
        ddpg_enbl_bsln_func: Subtract a moving average of returns from the final reward.
        ddpg_bsln_decy_rate: Share of the old value in that moving average, in [0, 1).
        ddpg_enbl_rtrn_norm: Divide rewards by a moving standard deviation of returns.
        ddpg_nb_rlouts_rand: Rollouts of uniformly random actions before the actor is used.
        ddpg_noise_std_init: Initial standard deviation of exploration, in units of [-1, 1].
        ddpg_noise_std_finl: Final (lowest) standard deviation of exploration.
        ddpg_noise_decy_rate: Decay factor of that standard deviation per rollout, in (0, 1].
    """

    ddpg_actor_depth: int = 2
    ddpg_actor_width: int = 64
    ddpg_critic_depth: int = 2
    ddpg_critic_width: int = 64
    ddpg_nb_critics: int = 1
    ddpg_tau: float = 0.01
    ddpg_gamma: float = 1.0
    ddpg_mixed_return: float = 0.5
    ddpg_lrn_rate_actor: float = 1e-4
    ddpg_lrn_rate_critic: float = 1e-3
    ddpg_batch_size: int = 64
    ddpg_buffer_size: int = 20_000
    ddpg_nb_updates: int = 100
    ddpg_enbl_bsln_func: bool = True
    ddpg_bsln_decy_rate: float = 0.95
    ddpg_enbl_rtrn_norm: bool = True
    ddpg_nb_rlouts_rand: int = 0
    ddpg_noise_std_init: float = 0.2
    ddpg_noise_std_finl: float = 0.05
    ddpg_noise_decy_rate: float = 0.97

    def __post_init__(self) -> None:
        check_settings(self)
        self.fit_unset()
        complain(self._problems())

    @classmethod
    def unset_rules(cls, values: Mapping[str, Any]) -> Iterator[UnsetRule]:
        """See `FitsUnset`."""
        floor, start = values["ddpg_noise_std_finl"], values["ddpg_noise_std_init"]
        if floor > start > 0:
            yield "ddpg_noise_std_finl", start, "ddpg_noise_std_init"
            yield "ddpg_noise_std_init", floor, "ddpg_noise_std_finl"

    def _problems(self) -> Iterator[str]:
        for name, least in _INTEGERS.items():
            value = getattr(self, name)
            if type(value) is not int or value < least:
                yield f"`{name}` {value!r}: allowed is a whole number, {least} or more"
        for name, (allowed, check) in _NUMBERS.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and check(value)):
                yield f"`{name}` {value!r}: allowed is {allowed}"
        if self.ddpg_noise_std_finl > self.ddpg_noise_std_init:
            yield (
                f"`ddpg_noise_std_finl` {self.ddpg_noise_std_finl!r}: allowed is at most "
                f"`ddpg_noise_std_init` {self.ddpg_noise_std_init!r}"
            )

    @property
    def noise(self) -> NoiseSchedule:
        """Standard deviation of exploration per rollout."""
        return NoiseSchedule(
            std_init=self.ddpg_noise_std_init,
            std_final=self.ddpg_noise_std_finl,
            decay=self.ddpg_noise_decy_rate,
            warm_up=self.ddpg_nb_rlouts_rand,
        )


_INTEGERS = {
    "ddpg_actor_depth": 1,
    "ddpg_actor_width": 1,
    "ddpg_critic_depth": 1,
    "ddpg_critic_width": 1,
    "ddpg_nb_critics": 1,
    "ddpg_batch_size": 1,
    "ddpg_buffer_size": 1,
    "ddpg_nb_updates": 0,
    "ddpg_nb_rlouts_rand": 0,
}
_Rule = tuple[str, Callable[[float], bool]]
_ABOVE_0_TO_1: _Rule = ("above 0, at most 1", lambda value: 0 < value <= 1)
_0_TO_1 = ("0 to 1", lambda value: 0 <= value <= 1)
_ABOVE_0 = ("above 0", lambda value: value > 0)
_NUMBERS: dict[str, _Rule] = {
    "ddpg_tau": _ABOVE_0_TO_1,
    "ddpg_gamma": _0_TO_1,
    "ddpg_mixed_return": _0_TO_1,
    "ddpg_lrn_rate_actor": _ABOVE_0,
    "ddpg_lrn_rate_critic": _ABOVE_0,
    "ddpg_bsln_decy_rate": ("0 or more, below 1", lambda value: 0 <= value < 1),
    "ddpg_noise_std_init": _ABOVE_0,
    "ddpg_noise_std_finl": ("0 or more", lambda value: value >= 0),
    "ddpg_noise_decy_rate": _ABOVE_0_TO_1,
}
