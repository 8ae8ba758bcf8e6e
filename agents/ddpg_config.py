"""Settings of the DDPG agent. Free of torch, so that a command line can show them at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agents.exploration import NoiseSchedule

__all__ = ["DDPGConfig"]


@dataclass(frozen=True, kw_only=True)
class DDPGConfig:
    """Settings of the agent; names as in PocketFlow where it has them.

    Attributes:
        ddpg_actor_depth: Hidden layers of the actor.
        ddpg_actor_width: Units of each.
        ddpg_critic_depth: Hidden layers of each critic.
        ddpg_critic_width: Units of each.
        ddpg_nb_critics: Critics whose minimum is the target; 2 counters over-estimation
            (Fujimoto et al., ICML 2018).
        ddpg_tau: Share of the online networks mixed into the target networks per update.
        ddpg_gamma: Discount. 1: a layer's worth does not depend on its place in the walk.
        ddpg_mixed_return: Share of the observed return in the critic's target, the rest being
            one-step bootstrap (Ostrovski et al., ICML 2017). The reward comes at the last layer
            only; the return carries it to the first in one update instead of one per layer.
        ddpg_lrn_rate_actor: Adam's learning rate of the actor.
        ddpg_lrn_rate_critic: Adam's learning rate of the critics.
        ddpg_batch_size: Transitions per update.
        ddpg_buffer_size: Transitions kept; the oldest go first.
        ddpg_nb_updates: Updates after each rollout.
        ddpg_enbl_bsln_func: Subtract a moving average of returns from the final reward.
        ddpg_bsln_decy_rate: Share of the old value in that moving average, in [0, 1).
        ddpg_enbl_rtrn_norm: Divide rewards by a moving standard deviation of returns.
        ddpg_nb_rlouts_rand: Rollouts of uniformly random actions before the actor is asked.
        ddpg_noise_std_init: Spread of exploration at the start, in units of [-1, 1].
        ddpg_noise_std_finl: Its floor.
        ddpg_noise_decy_rate: Its factor per rollout, in (0, 1].
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
        found = list(self._problems())
        if found:
            raise ValueError("\n".join(found))

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
        """The spread of exploration as a function of the rollout."""
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
