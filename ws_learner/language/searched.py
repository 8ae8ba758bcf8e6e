"""Ratios of the blocks by a search with rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from agents import DDPGConfig
from envs import AllocationProblem, IntArray, count_bounds
from ws_learner.config import WeightSparseConfig
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.layer_rows import BlockLayer
from ws_learner.language.rollouts import Rollouts
from ws_learner.language.settings import LanguageSettings
from ws_learner.language.solved_blocks import solve_blocks
from ws_learner.language.windows import Windows
from ws_learner.pruning import Pattern
from ws_learner.search import (
    CLOSED_FORM,
    AllocationContext,
    Search,
    best,
    build_proposer,
    owl_of_shares,
    progression_at,
)

__all__ = ["search_ratios"]

_SLOPES = (0.1, 0.2, 0.3)


def search_ratios(
    network: BlockNetwork,
    layers: Sequence[BlockLayer],
    context: AllocationContext,
    *,
    outliers: Sequence[float],
    config: WeightSparseConfig,
    settings: LanguageSettings,
    windows: Windows,
    pattern: Pattern,
    state: Path,
    table: Path,
) -> IntArray:
    """(B,) zeros of the best profile that was scored.

    Rollouts put pruned blocks of a database together, each at the ratio of the grid that is
    nearest. The search starts from uniform, owl, progression, divergence and gentle slopes.

    Args:
        network: The dense network.
        layers: Its layers.
        context: Blocks as layers, with their own divergences.
        outliers: (B,) share of outlying scores, for owl.
        config: Protocol, target, rollouts.
        settings: Reward.
        windows: Calibration and search are read.
        pattern: Of every layer.
        state: Folder for the database and the search.
        table: Path of `rollouts.csv`.

    Raises:
        UserError: The disk is full, or all rollouts failed.
    """
    solved = solve_blocks(
        network,
        layers,
        windows.calibration,
        pattern=pattern,
        target=config.ws_prune_ratio,
        folder=state / "solved",
    )
    weights = context.weights
    low, high = count_bounds(float(solved.ratios[0]), float(solved.ratios[-1]), weights)
    bounded = replace(
        context, lower=np.maximum(context.lower, low), upper=np.minimum(context.upper, high)
    )
    rollouts = Rollouts(network, windows.search, solved, weights, reward=settings.search_reward)
    measured = context.own()
    assert measured is not None
    densities, own = measured
    problem = AllocationProblem(
        layers=context.layers,
        target=config.ws_prune_ratio,
        lower=bounded.lower,
        upper=bounded.upper,
        prior=progression_at(bounded, _SLOPES[0]),
        curve_ratios=np.sort(1 - densities),
        curves=np.clip(own[:, np.argsort(1 - densities)], 0, None),
        evaluate=rollouts,
        own_densities=densities,
        own=own,
        by_divergence=settings.search_reward == "kl",
    )
    seeds = {"uniform": CLOSED_FORM["uniform"](bounded)}
    seeds |= {f"slope {slope:g}": progression_at(bounded, slope) for slope in _SLOPES}
    seeds |= {name: CLOSED_FORM[name](bounded) for name in ("progression", "divergence")}
    seeds |= {"owl": owl_of_shares(np.array(outliers), bounded)}
    search = Search(
        problem=problem,
        proposer=build_proposer(problem, config, agent=DDPGConfig(), seed=0),
        seeds=seeds,
        rollouts=config.ws_nb_rlouts,
        per_round=config.ws_rlouts_per_round,
        state=state / "search.pt",
        table=table,
        metric="perplexity",
        rewarded=settings.search_reward,
        patience=config.ws_patience,
        in_units=lambda zeros: solved.levels(zeros, weights),
    )
    search.run()
    return best(search.at_target()).zeros
