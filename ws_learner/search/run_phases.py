"""The phases of a run by its settings, and how many units each has."""

from __future__ import annotations

from ws_learner.config import METHODS, PROTOCOLS, Recipe, WeightSparseConfig
from ws_learner.data import DataSplits

__all__ = ["phases_of", "seconds_by_step", "units_of"]

_FORWARD = 1 / 3  # share of a training step that evaluating its examples takes


def phases_of(config: WeightSparseConfig) -> tuple[str, ...]:
    """Identifiers of the phases that a run with these settings has, in order."""
    protocol = PROTOCOLS[config.ws_prune_ratio_prtl]
    locked = METHODS[config.ws_method].keeps_zeros
    decided = locked or config.ws_ratios is not None
    searches = not decided and config.ws_policy is None
    searches = searches and (protocol.propose is not None or config.structured)
    measured = not decided and (searches or protocol.needs_weights or bool(config.budgets))
    phases = ["database"] if measured else []
    if searches:
        phases += ["search"]
        phases += ["finalists"] if config.ws_nb_rescore > 1 and not config.structured else []
    return (*phases, "training", "report")


def units_of(config: WeightSparseConfig, recipe: Recipe, data: DataSplits) -> dict[str, float]:
    """Rollouts, profiles and steps of the phases that are counted."""
    return {
        "search": config.ws_nb_rlouts,
        "finalists": config.ws_nb_rescore * max(config.ws_nb_jitters, 1),
        "training": recipe.total_steps(len(data.train)),
    }


def seconds_by_step(seconds: float, recipe: Recipe, data: DataSplits) -> dict[str, float]:
    """Time of training and report, from the time of a training step."""
    per_example = seconds * _FORWARD / recipe.batch_size
    steps = recipe.total_steps(len(data.train)) * seconds
    return {
        "training": steps + recipe.nb_epochs * len(data.select) * per_example,
        "report": 2 * len(data.test) * per_example,
    }
