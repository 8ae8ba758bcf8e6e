"""The allocation problem of a network: layer table, bounds, budget, error curves, rollouts."""

from __future__ import annotations

from envs import AllocationProblem, Evaluate
from ws_learner.config import RolloutConfig, WeightSparseConfig
from ws_learner.search.closed_form import CLOSED_FORM
from ws_learner.search.context import allocation_context
from ws_learner.search.rollout.evaluator import RolloutEvaluator

__all__ = ["build_pruning_problem", "build_rollout_config"]


def build_rollout_config(config: WeightSparseConfig) -> RolloutConfig:
    """Extract the rollout settings from the learner's settings."""
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
        reward_signal=config.ws_reward_signal,
        score_power=config.ws_score_power,
        reward_type=config.ws_reward_type,
        pattern=config.pattern_spelling,
        pool=config.ws_criterion_pool,
    )


def build_pruning_problem(
    evaluator: RolloutEvaluator, config: WeightSparseConfig, *, evaluate: Evaluate
) -> AllocationProblem:
    """Build the allocation problem for an agent; `evaluate` scores its candidates."""
    context = allocation_context(evaluator.dense, evaluator.layers, config, curves=evaluator.curves)
    ratios, curves = context.curves()
    return AllocationProblem(
        layers=evaluator.layers,
        target=config.ws_prune_ratio,
        lower=context.lower,
        upper=context.upper,
        prior=CLOSED_FORM["knapsack"](context),
        curve_ratios=ratios,
        curves=curves,
        evaluate=evaluate,
        exact=config.ws_reward_type == "single-obj",
    )
