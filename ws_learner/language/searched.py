"""Ratios of the blocks by a search with rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from agents import DDPGConfig
from envs import AllocationProblem, IntArray, count_bounds, project
from ws_learner.config import WeightSparseConfig
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.finalists import choose_finalist
from ws_learner.language.layer_rows import BlockLayer
from ws_learner.language.opened_rollouts import open_rollouts
from ws_learner.language.ratio_files import RatioFiles
from ws_learner.language.rollouts import Rollouts
from ws_learner.language.settings import LanguageSettings
from ws_learner.language.solved_blocks import SolvedBlocks
from ws_learner.language.start_profiles import marginal_profiles, start_profiles
from ws_learner.language.windows import Windows
from ws_learner.pruning import Pattern
from ws_learner.search import (
    AllocationContext,
    Search,
    build_proposer,
    distinct_best,
    progression_at,
)

__all__ = ["exact", "search_ratios"]

_PRIOR_SLOPE = 0.1
_FINALISTS = 6


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
    files: RatioFiles,
) -> IntArray:
    """(B,) zeros of the best profile that was scored.

    Rollouts put pruned blocks of a database together, each at one of its ratios. The search starts
    from uniform, owl, progression, divergence, slopes, and profiles of least marginal divergence.
    The best profiles are scored again on the select windows.

    Args:
        network: The dense network.
        layers: Its layers.
        context: Blocks as layers, with their own divergences.
        outliers: (B,) share of outlying scores, for owl.
        config: Protocol, target, rollouts.
        settings: Reward.
        windows: Calibration, search and select are read.
        pattern: Of every layer.
        files: For the database and the search.

    Raises:
        UserError: The disk is full, or all rollouts failed.
    """
    reward = settings.search_reward
    rollouts = open_rollouts(
        network,
        layers,
        windows,
        pattern=pattern,
        target=config.ws_prune_ratio,
        reward=reward,
        folder=files.database,
    )
    solved, weights = rollouts.solved, rollouts.weights
    bounded = _bounded(context, solved)
    seeds = start_profiles(bounded, outliers)
    seeds |= marginal_profiles(rollouts, seeds, budget=bounded.budget, folder=files.database)
    seeds = {name: exact(zeros, bounded) for name, zeros in seeds.items()}
    problem = _problem(bounded, config, rollouts, by_divergence=reward == "kl")

    def as_scored(zeros: IntArray) -> IntArray:
        return solved.zeros(solved.levels(zeros, weights), weights)

    search = Search(
        problem=problem,
        proposer=build_proposer(problem, config, agent=DDPGConfig(), seed=0),
        seeds=seeds,
        rollouts=config.ws_nb_rlouts,
        per_round=config.ws_rlouts_per_round,
        state=files.search,
        table=files.table,
        metric="perplexity",
        rewarded=reward,
        patience=config.ws_patience,
        in_units=lambda zeros: solved.levels(zeros, weights),
        shown=(as_scored, context.layers),
    )
    search.run()
    finalists = [solved.levels(one.zeros, weights)
                 for one in distinct_best(search.at_target(), _FINALISTS)]  # fmt: skip
    del rollouts, problem, search  # with the dense network's predictions
    chosen = choose_finalist(
        network,
        windows.select,
        solved,
        weights,
        finalists,
        reward=reward,
        folder=files.database,
    )
    return exact(solved.zeros(chosen, weights), bounded)


def _bounded(context: AllocationContext, solved: SolvedBlocks) -> AllocationContext:
    """The context with bounds inside the database's ratios."""
    low, high = count_bounds(float(solved.ratios[0]), float(solved.ratios[-1]), context.weights)
    return replace(
        context, lower=np.maximum(context.lower, low), upper=np.minimum(context.upper, high)
    )


def exact(zeros: IntArray, context: AllocationContext) -> IntArray:
    """The nearest profile within the bounds whose sum is the budget."""
    return project(
        zeros.astype(np.float64),
        budget=context.budget,
        lower=context.lower,
        upper=context.upper,
        weights=context.weights,
    )


def _problem(
    context: AllocationContext,
    config: WeightSparseConfig,
    rollouts: Rollouts,
    *,
    by_divergence: bool,
) -> AllocationProblem:
    measured = context.own()
    assert measured is not None
    densities, own = measured
    order = np.argsort(1 - densities)
    return AllocationProblem(
        layers=context.layers,
        target=config.ws_prune_ratio,
        lower=context.lower,
        upper=context.upper,
        prior=progression_at(context, _PRIOR_SLOPE),
        curve_ratios=(1 - densities)[order],
        curves=np.clip(own[:, order], 0, None),
        evaluate=rollouts,
        own_densities=densities,
        own=own,
        by_divergence=by_divergence,
    )
