"""The allocation problem and its Gymnasium environment; imports NumPy and Gymnasium only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ws_learner.core.lazy import lazy_names

if TYPE_CHECKING:
    from envs.action_map import ActionMap, Scale, ToRatio
    from envs.budget import count_bounds, largest_remainder, project, water_fill
    from envs.curves import error_at
    from envs.episode import Episode, Spend, Trajectory, replay_episode, run_episode
    from envs.features import FEATURES
    from envs.milder import as_scored, log_densities
    from envs.offset_map import OffsetMap
    from envs.own_curves import OwnCurves
    from envs.problem import AllocationProblem, Evaluate, FloatArray, IntArray, LayerRow, Score
    from envs.pruning_env import PruningEnv, register

__all__ = [
    "FEATURES",
    "ActionMap",
    "AllocationProblem",
    "Episode",
    "Evaluate",
    "FloatArray",
    "IntArray",
    "LayerRow",
    "OffsetMap",
    "OwnCurves",
    "PruningEnv",
    "Scale",
    "Score",
    "Spend",
    "ToRatio",
    "Trajectory",
    "as_scored",
    "count_bounds",
    "error_at",
    "largest_remainder",
    "log_densities",
    "project",
    "register",
    "replay_episode",
    "run_episode",
    "water_fill",
]

_MODULES = {
    "action_map": [
        "ActionMap",
        "Scale",
        "ToRatio",
    ],
    "budget": [
        "count_bounds",
        "largest_remainder",
        "project",
        "water_fill",
    ],
    "curves": [
        "error_at",
    ],
    "episode": [
        "Episode",
        "Spend",
        "Trajectory",
        "replay_episode",
        "run_episode",
    ],
    "features": [
        "FEATURES",
    ],
    "milder": [
        "as_scored",
        "log_densities",
    ],
    "offset_map": [
        "OffsetMap",
    ],
    "own_curves": [
        "OwnCurves",
    ],
    "problem": [
        "AllocationProblem",
        "Evaluate",
        "FloatArray",
        "IntArray",
        "LayerRow",
        "Score",
    ],
    "pruning_env": [
        "PruningEnv",
        "register",
    ],
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
