"""Registry of proposers by protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from agents import DDPGConfig, Proposer
from envs import AllocationProblem
from ws_learner.config import PROTOCOLS, WeightSparseConfig, load_object
from ws_learner.core import say
from ws_learner.search.policy_file import SavedPolicy

__all__ = ["build_proposer", "goal_targets"]

_GOALS = 7


def build_proposer(
    problem: AllocationProblem,
    config: WeightSparseConfig,
    *,
    agent: DDPGConfig,
    seed: int,
    goals: Callable[[float], AllocationProblem] | None = None,
    earlier: SavedPolicy | None = None,
) -> Proposer:
    """Make the proposer of the protocol that the settings name, one that searches.

    Args:
        problem: The allocation problem.
        config: Settings of the learner.
        agent: Settings of the DDPG agent of `ddpg` and `surrogate`.
        seed: Seed of the proposer.
        goals: Makes the problem of another target, for a search over `ws_goals`.
        earlier: Policy of an earlier search, to start from.
    """
    protocol = PROTOCOLS[config.ws_prune_ratio_prtl]
    if protocol.goals and config.ws_reward_type != "single-obj":
        say("`ws_reward_type` multi-obj: the total is free, so that surrogate searches instead")
        protocol = PROTOCOLS["surrogate"]
    if protocol.slopes and config.ws_reward_signal != "kl":
        say(
            f"`ws_reward_signal` {config.ws_reward_signal}: this reward has no slopes, so that the "
            "critic learns from values alone"
        )
    options: dict[str, Any] = {"seed": seed}
    if protocol.goals:
        targets = goal_targets(config) if goals else ()
        options |= {"rollouts": config.ws_nb_rlouts, "goals": goals, "targets": targets}
        if earlier is not None:
            options |= {"earlier": earlier.seen, "actor_state": earlier.actor}
    elif protocol.agent:
        options |= {
            "config": agent,
            "rollouts": config.ws_nb_rlouts,
            "rollouts_min": config.ws_nb_rlouts_min,
            "scale": config.ws_action_scale,
        }
    proposer: Proposer = load_object(protocol.propose)(problem, **options)
    return proposer


def goal_targets(config: WeightSparseConfig) -> tuple[float, ...]:
    """Targets of a search over `ws_goals`, evenly spaced in ln(density), with the run's own."""
    if config.goal_range is None:
        return ()
    low, high = config.goal_range
    spread = 1 - np.geomspace(1 - low, 1 - high, _GOALS)
    return tuple(sorted({*(round(float(x), 6) for x in spread), config.ws_prune_ratio}))
