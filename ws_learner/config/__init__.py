"""Settings as frozen dataclasses, and the registries of what they name. Free of torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ws_learner.core.lazy import lazy_names

if TYPE_CHECKING:
    from ws_learner.config.budget import ENGINES, Budget, EngineName, parse_budgets, parse_goals
    from ws_learner.config.cluster import ClusterConfig
    from ws_learner.config.duration import parse_duration
    from ws_learner.config.entries import (
        CriterionEntry,
        MethodEntry,
        PatternEntry,
        ProtocolEntry,
        ScheduleEntry,
        SolverEntry,
    )
    from ws_learner.config.joint import STOCK_ENGINES, is_joint, pattern_list
    from ws_learner.config.learner import POCKETFLOW, WeightSparseConfig
    from ws_learner.config.pattern_syntax import (
        AUTO_PATTERNS,
        PatternSpec,
        parse_pattern_spec,
        parse_roles,
    )
    from ws_learner.config.recipe import LrnSchedule, OptimizerName, Recipe, learning_rate
    from ws_learner.config.recipe_choice import usual_recipe
    from ws_learner.config.registries import (
        CRITERIA,
        METHODS,
        PATTERNS,
        PROTOCOLS,
        SCHEDULES,
        SOLVERS,
        CriterionName,
        ScheduleName,
        SolverName,
    )
    from ws_learner.config.registry import Entry, Loaded, Registry, load_object
    from ws_learner.config.rollout import LEVELS, RewardSignal, RolloutConfig
    from ws_learner.config.search import NAMED_RATIOS
    from ws_learner.config.search_identity import as_recorded, identity_settings
    from ws_learner.config.unused import conflicting_settings, unused_settings


__all__ = [
    "AUTO_PATTERNS",
    "CRITERIA",
    "ENGINES",
    "LEVELS",
    "METHODS",
    "NAMED_RATIOS",
    "PATTERNS",
    "POCKETFLOW",
    "PROTOCOLS",
    "SCHEDULES",
    "SOLVERS",
    "STOCK_ENGINES",
    "Budget",
    "ClusterConfig",
    "CriterionEntry",
    "CriterionName",
    "EngineName",
    "Entry",
    "Loaded",
    "LrnSchedule",
    "MethodEntry",
    "OptimizerName",
    "PatternEntry",
    "PatternSpec",
    "ProtocolEntry",
    "Recipe",
    "Registry",
    "RewardSignal",
    "RolloutConfig",
    "ScheduleEntry",
    "ScheduleName",
    "SolverEntry",
    "SolverName",
    "WeightSparseConfig",
    "as_recorded",
    "conflicting_settings",
    "identity_settings",
    "is_joint",
    "learning_rate",
    "load_object",
    "parse_budgets",
    "parse_duration",
    "parse_goals",
    "parse_pattern_spec",
    "parse_roles",
    "pattern_list",
    "unused_settings",
    "usual_recipe",
]

_MODULES = {
    "joint": [
        "STOCK_ENGINES",
        "is_joint",
        "pattern_list",
    ],
    "budget": [
        "ENGINES",
        "Budget",
        "EngineName",
        "parse_budgets",
        "parse_goals",
    ],
    "cluster": [
        "ClusterConfig",
    ],
    "duration": [
        "parse_duration",
    ],
    "entries": [
        "CriterionEntry",
        "MethodEntry",
        "PatternEntry",
        "ProtocolEntry",
        "ScheduleEntry",
        "SolverEntry",
    ],
    "learner": [
        "POCKETFLOW",
        "WeightSparseConfig",
    ],
    "pattern_syntax": [
        "AUTO_PATTERNS",
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
    "registries": [
        "CRITERIA",
        "METHODS",
        "PATTERNS",
        "PROTOCOLS",
        "SCHEDULES",
        "SOLVERS",
        "CriterionName",
        "ScheduleName",
        "SolverName",
    ],
    "registry": [
        "Entry",
        "Loaded",
        "Registry",
        "load_object",
    ],
    "rollout": [
        "LEVELS",
        "RewardSignal",
        "RolloutConfig",
    ],
    "search": [
        "NAMED_RATIOS",
    ],
    "search_identity": [
        "as_recorded",
        "identity_settings",
    ],
    "unused": [
        "conflicting_settings",
        "unused_settings",
    ],
    "recipe_choice": [
        "usual_recipe",
    ],
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
