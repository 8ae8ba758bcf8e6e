"""Search agents: DDPG, Bayesian optimisation, evolution and random search over prune ratios."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ws_learner.core.lazy import lazy_names

if TYPE_CHECKING:
    from agents.bayesian import BayesianSearch
    from agents.critic import Observed
    from agents.ddpg import DDPG
    from agents.ddpg_config import DDPGConfig
    from agents.ddpg_search import DDPGSearch
    from agents.evolution import Evolution
    from agents.forecasts import Forecast, critic_record
    from agents.goal_ddpg import GoalDDPG
    from agents.goal_search import GoalSearch
    from agents.layer_actor import INPUTS
    from agents.logits import LogitSpace
    from agents.profile_policy import Emission, ProfilePolicy
    from agents.proposer import SEED, Proposal, Proposer
    from agents.random_search import RandomSearch
    from agents.surrogate_search import SurrogateSearch

__all__ = [
    "DDPG",
    "INPUTS",
    "SEED",
    "BayesianSearch",
    "DDPGConfig",
    "DDPGSearch",
    "Emission",
    "Evolution",
    "Forecast",
    "GoalDDPG",
    "GoalSearch",
    "LogitSpace",
    "Observed",
    "ProfilePolicy",
    "Proposal",
    "Proposer",
    "RandomSearch",
    "SurrogateSearch",
    "critic_record",
]

_MODULES = {
    "bayesian": [
        "BayesianSearch",
    ],
    "critic": [
        "Observed",
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
    "forecasts": [
        "Forecast",
        "critic_record",
    ],
    "goal_ddpg": [
        "GoalDDPG",
    ],
    "goal_search": [
        "GoalSearch",
    ],
    "layer_actor": [
        "INPUTS",
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
