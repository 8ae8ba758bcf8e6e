"""Settings as frozen dataclasses. Free of torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ws_learner.core.lazy import lazy_names

if TYPE_CHECKING:
    from ws_learner.config.cluster import ClusterConfig
    from ws_learner.config.learner import FROM_TABLE, POCKETFLOW, SEARCHED, WeightSparseConfig
    from ws_learner.config.methods import NM_METHODS
    from ws_learner.config.pattern_syntax import PatternSpec, parse_pattern_spec, parse_roles
    from ws_learner.config.recipe import LrnSchedule, OptimizerName, Recipe, learning_rate
    from ws_learner.config.rollout import LEVELS, RolloutConfig
    from ws_learner.config.unused import METHOD_SETTINGS, conflicting_settings, unused_settings

__all__ = [
    "FROM_TABLE",
    "LEVELS",
    "METHOD_SETTINGS",
    "NM_METHODS",
    "POCKETFLOW",
    "SEARCHED",
    "ClusterConfig",
    "LrnSchedule",
    "OptimizerName",
    "PatternSpec",
    "Recipe",
    "RolloutConfig",
    "WeightSparseConfig",
    "conflicting_settings",
    "learning_rate",
    "parse_pattern_spec",
    "parse_roles",
    "unused_settings",
]

_MODULES = {
    "cluster": [
        "ClusterConfig",
    ],
    "learner": [
        "FROM_TABLE",
        "POCKETFLOW",
        "SEARCHED",
        "WeightSparseConfig",
    ],
    "methods": [
        "NM_METHODS",
    ],
    "pattern_syntax": [
        "PatternSpec",
        "parse_pattern_spec",
        "parse_roles",
    ],
    "recipe": [
        "LrnSchedule",
        "OptimizerName",
        "Recipe",
        "learning_rate",
    ],
    "rollout": [
        "LEVELS",
        "RolloutConfig",
    ],
    "unused": [
        "METHOD_SETTINGS",
        "conflicting_settings",
        "unused_settings",
    ],
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
