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
    from agents.goal_ddpg import GoalDDPG
    from agents.goal_search import GoalSearch
    from agents.logits import LogitSpace
    from agents.profile_policy import Emission, ProfilePolicy
    from agents.proposer import SEED, Proposal, Proposer
    from agents.random_search import RandomSearch
    from agents.surrogate_search import SurrogateSearch

__all__ = [
    "DDPG",
    "SEED",
    "BayesianSearch",
    "DDPGConfig",
    "DDPGSearch",
    "Emission",
    "Evolution",
    "GoalDDPG",
    "GoalSearch",
    "LogitSpace",
    "ProfilePolicy",
    "Proposal",
    "Proposer",
    "RandomSearch",
    "SurrogateSearch",
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
    "goal_ddpg": [
        "GoalDDPG",
    ],
    "goal_search": [
        "GoalSearch",
    ],
    "logits": [
        "LogitSpace",
    ],
    "profile_policy": [
        "Emission",
        "ProfilePolicy",
    ],
    "proposer": [
        "Proposal",
        "Proposer",
        "SEED",
    ],
    "random_search": [
        "RandomSearch",
    ],
    "surrogate_search": [
        "SurrogateSearch",
    ],
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
