"""The actor of the goal-conditioned agent: one small network shared by all layers."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.td3.policies import Actor, TD3Policy
from torch import Tensor, nn

from envs import FEATURES

__all__ = ["INPUTS", "GoalPolicy", "LayerActor"]

INPUTS = (
    *("position", "linear", "size", "weights", "reuse", "prior_density", "goal"),
    *(name for name in FEATURES if name.startswith("own_at_")),
)
"""Entries of the observation that the actor reads. None depends on earlier actions."""
_PLACES = [FEATURES.index(name) for name in INPUTS]
_GOAL, _POSITION = FEATURES.index("goal"), FEATURES.index("position")


class LayerActor(Actor):
    """(B, len(FEATURES)) observations to (B, 1) actions.

    A layer's action depends on its own description and on the goal, not on the actions before it,
    so that all layers of a profile can be computed at once. With `layers` above 0 each layer has
    two free numbers, an offset and a slope in the goal; they cannot be used on another network.

    Args:
        layers: Number of layers with free numbers, 0 for none.
        width: Units of each of the two hidden layers.
        options: As for stable-baselines3's actor.
    """

    def __init__(self, *, layers: int = 0, width: int = 48, **options: Any) -> None:
        super().__init__(**options)
        self.layers, self.width = layers, width
        last = nn.Linear(width, 1)
        nn.init.zeros_(last.weight)  # action 0 at first: the prior
        nn.init.zeros_(last.bias)
        first, second = nn.Linear(len(INPUTS) + 1, width), nn.Linear(width, width)
        self.mu = nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), last)
        self.free = nn.Parameter(torch.zeros(layers, 2))

    def forward(self, obs: Tensor) -> Tensor:
        """Return the actions."""
        goal = obs[:, _GOAL]
        seen = torch.cat([obs[:, _PLACES], goal[:, None] ** 2], 1)
        raw = self.mu(seen)[:, 0]
        if self.layers:
            layer = (obs[:, _POSITION] * max(self.layers - 1, 1)).round().long()
            free = self.free[layer.clamp(0, self.layers - 1)]
            raw = raw + free[:, 0] + free[:, 1] * (goal - 0.5)
        return torch.tanh(raw)[:, None]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"layers": self.layers, "width": self.width}


class _NoCritic(BaseModel):
    """Stands where stable-baselines3 keeps its critic networks; the critic is not a network."""

    def forward(self) -> None:
        """Do nothing."""


class GoalPolicy(TD3Policy):
    """Policy with a `LayerActor` and no critic network; there are no target networks.

    Args:
        layers: See `LayerActor`.
        width: See `LayerActor`.
        options: As for stable-baselines3's `TD3Policy`.
    """

    def __init__(self, *args: Any, layers: int = 0, width: int = 48, **options: Any) -> None:
        self._layers, self._width = layers, width
        super().__init__(*args, **options)

    def _build(self, lr_schedule: Schedule) -> None:
        self.actor = self.make_actor()
        self.actor.optimizer = self.optimizer_class(
            self.actor.parameters(),
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )
        self.actor_target = self.actor
        critic: Any = _NoCritic(self.observation_space, self.action_space)
        self.critic = self.critic_target = critic

    def make_actor(self, features_extractor: Any = None) -> Actor:
        """Make the actor."""
        options = self._update_features_extractor(self.actor_kwargs, features_extractor)
        return LayerActor(layers=self._layers, width=self._width, **options).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        own = {"layers": self._layers, "width": self._width}
        return super()._get_constructor_parameters() | own
