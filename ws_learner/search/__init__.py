"""Allocation protocols: from layer table and target to the number of zeros of each layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ws_learner.core.lazy import lazy_names

if TYPE_CHECKING:
    from ws_learner.pruning import LayerRegression
    from ws_learner.search.allocation import Allocation
    from ws_learner.search.allocator import Allocator, database_dir
    from ws_learner.search.bounds import layer_bounds
    from ws_learner.search.closed_form import CLOSED_FORM, heurist
    from ws_learner.search.context import AllocationContext, allocation_context, refuse_bounds
    from ws_learner.search.costs.budgeted import BudgetedAllocation
    from ws_learner.search.costs.finished import (
        finished_choices,
        finished_costs,
        layer_patterns,
        summary_facts,
    )
    from ws_learner.search.costs.plain_settings import locked_settings, plain_settings
    from ws_learner.search.costs.prune_further import prune_further
    from ws_learner.search.costs.source import CostSource
    from ws_learner.search.fixed import fixed_profile
    from ws_learner.search.gym_env import make_pruning_env
    from ws_learner.search.history import best, distinct_best
    from ws_learner.search.knapsack import frontier
    from ws_learner.search.knapsack_solver import solve_knapsack
    from ws_learner.search.layer_sensitivity import sensitivity
    from ws_learner.search.least_divergence import divergence
    from ws_learner.search.levels import zeros_at_offsets
    from ws_learner.search.loop import Search
    from ws_learner.search.owl import outlier_share, owl_of_shares
    from ws_learner.search.policy_file import SavedPolicy, read_policy
    from ws_learner.search.policy_use import open_policy
    from ws_learner.search.policy_view import PolicyView
    from ws_learner.search.problem import (
        build_goal_problems,
        build_pruning_problem,
        build_rollout_config,
    )
    from ws_learner.search.progression import progression_at
    from ws_learner.search.registry import build_proposer, goal_targets
    from ws_learner.search.rollout.adam_regression import layer_output
    from ws_learner.search.rollout.choice_database import ChoiceDatabase
    from ws_learner.search.rollout.choice_evaluator import ChoiceEvaluator
    from ws_learner.search.rollout.choice_grid import CHOICE_DENSITIES, DENSE
    from ws_learner.search.rollout.evaluator import RolloutEvaluator
    from ws_learner.search.rollout.gram import collect_grams
    from ws_learner.search.rollout.local_pool import LocalPool
    from ws_learner.search.rollout.pool_choice import choose_pool
    from ws_learner.search.rollout.pool_protocol import RolloutPool
    from ws_learner.search.rollout.ray_pool import RayPool
    from ws_learner.search.rollout.scoring import as_scored
    from ws_learner.search.run_phases import phases_of, seconds_by_step, units_of
    from ws_learner.search.seeds import seed_profiles
    from ws_learner.search.sensitivity_table import Sensitivity
    from ws_learner.search.structured.structured_profile import (
        StructuredProfile,
        structured_profile,
    )
    from ws_learner.search.structured.unit_allocation import allocate_units
    from ws_learner.search.structured.unit_costs import UnitCosts, WeightCosts
    from ws_learner.search.structured.unit_database import UnitDatabase

__all__ = [
    "CHOICE_DENSITIES",
    "CLOSED_FORM",
    "DENSE",
    "Allocation",
    "AllocationContext",
    "Allocator",
    "BudgetedAllocation",
    "ChoiceDatabase",
    "ChoiceEvaluator",
    "CostSource",
    "LayerRegression",
    "LocalPool",
    "PolicyView",
    "RayPool",
    "RolloutEvaluator",
    "RolloutPool",
    "SavedPolicy",
    "Search",
    "Sensitivity",
    "StructuredProfile",
    "UnitCosts",
    "UnitDatabase",
    "WeightCosts",
    "allocate_units",
    "allocation_context",
    "as_scored",
    "best",
    "build_goal_problems",
    "build_proposer",
    "build_pruning_problem",
    "build_rollout_config",
    "choose_pool",
    "collect_grams",
    "database_dir",
    "distinct_best",
    "divergence",
    "finished_choices",
    "finished_costs",
    "fixed_profile",
    "frontier",
    "goal_targets",
    "heurist",
    "layer_bounds",
    "layer_output",
    "layer_patterns",
    "locked_settings",
    "make_pruning_env",
    "open_policy",
    "outlier_share",
    "owl_of_shares",
    "phases_of",
    "plain_settings",
    "progression_at",
    "prune_further",
    "read_policy",
    "refuse_bounds",
    "seconds_by_step",
    "seed_profiles",
    "sensitivity",
    "solve_knapsack",
    "structured_profile",
    "summary_facts",
    "units_of",
    "zeros_at_offsets",
]

_MODULES = {
    "sensitivity_table": [
        "Sensitivity",
    ],
    "layer_sensitivity": [
        "sensitivity",
    ],
    "costs.finished": [
        "summary_facts",
        "layer_patterns",
        "finished_choices",
        "finished_costs",
    ],
    "costs.source": [
        "CostSource",
    ],
    "costs.budgeted": [
        "BudgetedAllocation",
    ],
    "costs.prune_further": [
        "prune_further",
    ],
    "costs.plain_settings": [
        "locked_settings",
        "plain_settings",
    ],
    "allocation": [
        "Allocation",
    ],
    "allocator": [
        "Allocator",
        "database_dir",
    ],
    "bounds": [
        "layer_bounds",
    ],
    "closed_form": [
        "CLOSED_FORM",
        "heurist",
    ],
    "context": [
        "AllocationContext",
        "allocation_context",
        "refuse_bounds",
    ],
    "fixed": [
        "fixed_profile",
    ],
    "gym_env": [
        "make_pruning_env",
    ],
    "history": [
        "best",
        "distinct_best",
    ],
    "knapsack": [
        "frontier",
    ],
    "knapsack_solver": [
        "solve_knapsack",
    ],
    "least_divergence": [
        "divergence",
    ],
    "levels": [
        "zeros_at_offsets",
    ],
    "loop": [
        "Search",
    ],
    "owl": [
        "outlier_share",
        "owl_of_shares",
    ],
    "policy_file": [
        "SavedPolicy",
        "read_policy",
    ],
    "policy_use": [
        "open_policy",
    ],
    "policy_view": [
        "PolicyView",
    ],
    "problem": [
        "build_goal_problems",
        "build_pruning_problem",
        "build_rollout_config",
    ],
    "progression": [
        "progression_at",
    ],
    "registry": [
        "build_proposer",
        "goal_targets",
    ],
    "rollout.adam_regression": [
        "layer_output",
    ],
    "rollout.choice_database": [
        "ChoiceDatabase",
    ],
    "rollout.choice_evaluator": [
        "ChoiceEvaluator",
    ],
    "rollout.choice_grid": [
        "CHOICE_DENSITIES",
        "DENSE",
    ],
    "rollout.evaluator": [
        "RolloutEvaluator",
    ],
    "rollout.gram": [
        "collect_grams",
    ],
    "rollout.local_pool": [
        "LocalPool",
    ],
    "rollout.pool_choice": [
        "choose_pool",
    ],
    "rollout.pool_protocol": [
        "RolloutPool",
    ],
    "rollout.ray_pool": [
        "RayPool",
    ],
    "ws_learner.pruning": [
        "LayerRegression",
    ],
    "rollout.scoring": [
        "as_scored",
    ],
    "run_phases": [
        "phases_of",
        "seconds_by_step",
        "units_of",
    ],
    "seeds": [
        "seed_profiles",
    ],
    "structured.structured_profile": [
        "StructuredProfile",
        "structured_profile",
    ],
    "structured.unit_allocation": [
        "allocate_units",
    ],
    "structured.unit_costs": [
        "UnitCosts",
        "WeightCosts",
    ],
    "structured.unit_database": [
        "UnitDatabase",
    ],
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
