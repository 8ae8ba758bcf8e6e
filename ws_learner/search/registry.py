"""Registry of proposers by protocol."""

from __future__ import annotations

from typing import Any

from agents import DDPGConfig, Proposer
from envs import AllocationProblem
from ws_learner.config import PROTOCOLS, WeightSparseConfig, load_object

__all__ = ["build_proposer"]


def build_proposer(
    problem: AllocationProblem, config: WeightSparseConfig, *, agent: DDPGConfig, seed: int
) -> Proposer:
    """Make the proposer of the protocol that the settings name, one that searches."""
    protocol = PROTOCOLS[config.ws_prune_ratio_prtl]
    options: dict[str, Any] = {"seed": seed}
    if protocol.agent:
        options |= {
            "config": agent,
            "rollouts": config.ws_nb_rlouts,
            "rollouts_min": config.ws_nb_rlouts_min,
            "scale": config.ws_action_scale,
        }
    proposer: Proposer = load_object(protocol.propose)(problem, **options)
    return proposer
