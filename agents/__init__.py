"""Search agents: DDPG, Bayesian optimisation, evolution and random search over prune ratios."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ws_learner.core.lazy import lazy_names

if TYPE_CHECKING:
    from agents.bayesian import BayesianSearch
    from agents.ddpg import DDPG
    from agents.ddpg_config import DDPGConfig
    from agents.ddpg_search import DDPGSearch
    from agents.evolution import Evolution
    from agents.logits import LogitSpace
    from agents.optimal import OptimalSearch
    from agents.proposer import SEED, Proposal, Proposer
    from agents.random_search import RandomSearch

__all__ = [
    "DDPG",
    "SEED",
    "BayesianSearch",
    "DDPGConfig",
    "DDPGSearch",
    "Evolution",
    "LogitSpace",
    "OptimalSearch",
    "Proposal",
    "Proposer",
    "RandomSearch",
]

_MODULES = {
    "bayesian": [
        "BayesianSearch",
    ],
    "ddpg": [
        "DDPG",
    ],
    "ddpg_config": [
        "DDPGConfig",
    ],
    "ddpg_search": [
        "DDPGSearch",
    ],
    "evolution": [
        "Evolution",
    ],
    "logits": [
        "LogitSpace",
    ],
    "optimal": [
        "OptimalSearch",
    ],
    "proposer": [
        "Proposal",
        "Proposer",
        "SEED",
    ],
    "random_search": [
        "RandomSearch",
    ],
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
