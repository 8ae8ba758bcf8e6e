"""The allocation problem of a network: layer table, bounds, budget, curves, rollouts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache

from envs import AllocationProblem, Evaluate
from ws_learner.config import PROTOCOLS, RolloutConfig, WeightSparseConfig
from ws_learner.search.closed_form import run_closed_form
from ws_learner.search.context import AllocationContext
from ws_learner.search.rollout.pool_protocol import Evaluator

__all__ = ["build_goal_problems", "build_pruning_problem", "build_rollout_config"]


def build_rollout_config(config: WeightSparseConfig) -> RolloutConfig:
    """Extract the rollout settings from the learner's settings."""
    by_divergence = config.ws_reward_signal == "kl"
    slopes = PROTOCOLS[config.ws_prune_ratio_prtl].slopes and by_divergence
    return RolloutConfig(
        rg_solver=config.ws_rg_solver,
        lrn_rate_rg=config.ws_lrn_rate_rg,
        nb_iters_rg=config.ws_nb_iters_rg,
        lrn_rate_ft=config.ws_lrn_rate_ft,
        nb_iters_ft=config.ws_nb_iters_ft,
        batch_size_ft=config.ws_batch_size_ft,
        nb_iters_feval=config.ws_nb_iters_feval,
        nb_smpls_rg=config.ws_nb_smpls_rg,
        nb_smpls_bn=config.ws_nb_smpls_bn,
        nb_smpls_slope=config.ws_nb_smpls_slope if slopes else 0,
        nb_smpls_own=config.ws_nb_smpls_own,
        reward_signal=config.ws_reward_signal,
        score_power=config.ws_score_power,
        reward_type=config.ws_reward_type,
        pattern=config.pattern_spelling,
        pool=config.ws_criterion_pool,
    )


def build_pruning_problem(
    evaluator: Evaluator, config: WeightSparseConfig, *, evaluate: Evaluate
) -> AllocationProblem:
    """Build the allocation problem for an agent; `evaluate` scores its candidates.

    The prior is the profile of least summed own divergences, or of least summed errors where what
    the outputs mean is not known.
    """
    return problem_of(evaluator.context(config), config, evaluate=evaluate)


def problem_of(
    context: AllocationContext, config: WeightSparseConfig, *, evaluate: Evaluate
) -> AllocationProblem:
    """Build the allocation problem of a context."""
    (ratios, curves), own = context.curves(), context.own()
    return AllocationProblem(
        layers=context.layers,
        target=config.ws_prune_ratio,
        lower=context.lower,
        upper=context.upper,
        prior=run_closed_form("knapsack" if own is None else "divergence", context),
        curve_ratios=ratios,
        curves=curves,
        evaluate=evaluate,
        exact=config.ws_reward_type == "single-obj",
        own_densities=None if own is None else own[0],
        own=None if own is None else own[1],
        score_power=config.ws_score_power,
        by_divergence=config.ws_reward_signal == "kl",
    )


def build_goal_problems(
    evaluator: Evaluator, config: WeightSparseConfig, *, evaluate: Evaluate
) -> Callable[[float], AllocationProblem]:
    """Problems of the same network at other targets; each is built once."""

    @cache
    def at(target: float) -> AllocationProblem:
        aimed = dataclasses.replace(config, ws_prune_ratio=target)
        return build_pruning_problem(evaluator, aimed, evaluate=evaluate)

    return at
