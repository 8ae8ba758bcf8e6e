"""The allocation problem and its Gymnasium environment; imports NumPy and Gymnasium only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ws_learner.core.lazy import lazy_names

if TYPE_CHECKING:
    from envs.action_map import ActionMap, Scale
    from envs.budget import count_bounds, largest_remainder, project, water_fill
    from envs.curves import error_at
    from envs.episode import Trajectory, replay_episode, run_episode
    from envs.features import FEATURES
    from envs.problem import AllocationProblem, Evaluate, FloatArray, IntArray, LayerRow, Score
    from envs.pruning_env import PruningEnv, register

__all__ = [
    "FEATURES",
    "ActionMap",
    "AllocationProblem",
    "Evaluate",
    "FloatArray",
    "IntArray",
    "LayerRow",
    "PruningEnv",
    "Scale",
    "Score",
    "Trajectory",
    "count_bounds",
    "error_at",
    "largest_remainder",
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
        "Trajectory",
        "replay_episode",
        "run_episode",
    ],
    "features": [
        "FEATURES",
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
