"""A saved policy by itself: its profiles, prices and curves, without the network."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pandas as pd
from torch import nn

from agents import ProfilePolicy
from ws_learner.config import WeightSparseConfig
from ws_learner.core import AnyPath, UserError, as_path, reading, share_hint
from ws_learner.search.policy_file import SavedPolicy, read_policy
from ws_learner.search.policy_use import Decision, decided, policy_problems, restored_policy

__all__ = ["PolicyView"]

_DENSITIES = np.geomspace(0.01, 1.0, 41)
_SHOWN = 0.1
_FACTORS = (4.0, 2.0, 1.0, 0.5)


class PolicyView:
    """The policy of a run, within the bounds that its search had.

    Args:
        given: The run directory, or the file.

    Attributes:
        saved: What the file holds.

    Raises:
        UserError: The file cannot be used.
    """

    def __init__(self, given: AnyPath) -> None:
        given = as_path(given, name="given")
        self.saved: SavedPolicy = read_policy(given, setting="")
        with reading(given, "give the folder of a run that searched with protocol optimal"):
            config = WeightSparseConfig(ws_prune_ratio=self.saved.target, **self.saved.bounds)
            self._at = policy_problems(self.saved, self.saved.layers, config, nn.Identity())

    @cached_property
    def _policy(self) -> ProfilePolicy:
        return restored_policy(self.saved, self._at, self.saved.target)

    def emit(self, target: float) -> Decision:
        """The profile for a target, in whole weights.

        Raises:
            UserError: The target is not within (0, 1), or the layers' bounds do not allow it.
        """
        if not 0 < target < 1:
            raise UserError(
                f"`ws_prune_ratio` {target:g}: must lie between 0 and 1{share_hint(target)}"
            )
        return decided(self._policy.emit(target)[0])

    def usual_targets(self) -> tuple[float, ...]:
        """Four targets: over the range of goals, or around the only one."""
        low, high = self.saved.goals
        if low < high:
            found = 1 - np.geomspace(1 - low, 1 - high, len(_FACTORS))
        else:
            found = np.array([1 - factor * (1 - low) for factor in _FACTORS])
        return tuple(round(float(x), 4) for x in found if x > 0)

    def table(self, profiles: dict[float, Decision]) -> pd.DataFrame:
        """One row per layer: weights, price, own divergence, density at each target."""
        layers, critic = self.saved.layers, self._policy.critic
        own, _ = critic.curves(np.full(len(layers), np.log(_SHOWN)))
        sizes = np.array([row.weights for row in layers])
        columns: dict[str, object] = {
            "layer": [row.name for row in layers],
            "weights": sizes,
            "price": critic.prices,
            f"own_divergence_at_{_SHOWN:g}": own,
        }
        for target, one in profiles.items():
            columns[f"density/{target:g}"] = 1 - one.zeros / sizes
        return pd.DataFrame(columns)

    def curves(self) -> pd.DataFrame:
        """Own divergence of each layer (columns) at densities from 0.01 to 1 (`density`)."""
        layers = self.saved.layers
        logs = np.repeat(np.log(_DENSITIES)[:, None], len(layers), axis=1)
        values, _ = self._policy.critic.curves(logs)
        frame = pd.DataFrame(values, columns=[row.name for row in layers])
        frame.insert(0, "density", _DENSITIES)
        return frame

    def ratios(self, target: float) -> pd.DataFrame:
        """The profile for a target as a table that `ws_ratios` reads."""
        zeros = self.emit(target).zeros
        sizes = np.array([row.weights for row in self.saved.layers])
        names = [row.name for row in self.saved.layers]
        return pd.DataFrame({"layer": names, "prune_ratio": zeros / sizes, "weights": sizes})
