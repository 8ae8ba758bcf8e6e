"""Registry of proposers by protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agents import (
    BayesianSearch,
    DDPGConfig,
    DDPGSearch,
    Evolution,
    OptimalSearch,
    Proposer,
    RandomSearch,
)
from envs import AllocationProblem
from ws_learner.config import WeightSparseConfig

__all__ = ["SEARCHERS", "build_proposer"]

_ALONE: dict[str, Callable[..., Proposer]] = {
    "random": RandomSearch,
    "evolution": Evolution,
    "bayesian": BayesianSearch,
}
_WITH_AGENT: dict[str, Callable[..., Proposer]] = {"ddpg": DDPGSearch, "optimal": OptimalSearch}

SEARCHERS = (*_ALONE, *_WITH_AGENT)
"""Protocols that score profiles by rollouts."""


def build_proposer(
    problem: AllocationProblem, config: WeightSparseConfig, *, agent: DDPGConfig, seed: int
) -> Proposer:
    """Make the proposer of the protocol that the settings name, one of `SEARCHERS`."""
    name = config.ws_prune_ratio_prtl
    if name in _ALONE:
        return _ALONE[name](problem, seed=seed)
    options: dict[str, Any] = {
        "config": agent,
        "seed": seed,
        "rollouts": config.ws_nb_rlouts,
        "rollouts_min": config.ws_nb_rlouts_min,
        "scale": config.ws_action_scale,
    }
    return _WITH_AGENT[name](problem, **options)
