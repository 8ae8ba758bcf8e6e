"""A profile by rollouts: search, then choose among the finalists on the select split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from agents import DDPGConfig, Proposer
from envs import IntArray
from ws_learner.config import WeightSparseConfig, parse_duration
from ws_learner.core import RunDir, enter_phase, write_text
from ws_learner.data import Split
from ws_learner.search.allocation import Decision
from ws_learner.search.choice import choose, score_finalists, take_finalists
from ws_learner.search.context import AllocationContext
from ws_learner.search.failures import count_failed, say_failures
from ws_learner.search.history import Rollout
from ws_learner.search.loop import Search
from ws_learner.search.problem import build_goal_problems
from ws_learner.search.registry import build_proposer
from ws_learner.search.rollout.pool_protocol import Evaluator, PoolFactory
from ws_learner.search.seeds import seed_profiles
from ws_learner.search.warm_start import EarlierPolicy, load_earlier_profiles
from ws_learner.training import as_metric

__all__ = ["search_profile"]

_EARLIER = 8
"""Number of profiles taken over from an earlier search."""


def search_profile(
    context: AllocationContext,
    evaluator: Evaluator,
    *,
    model: nn.Module,
    config: WeightSparseConfig,
    agent: DDPGConfig,
    seed: int,
    pool: PoolFactory,
    select: Split,
    run: RunDir,
    earlier: EarlierPolicy | None = None,
) -> Decision:
    """Search by the protocol of the settings, and choose one of the best profiles.

    Args:
        context: Budget and bounds.
        evaluator: Scores rollouts on the search split.
        model: The dense network.
        config: Settings of the search.
        agent: Settings of the DDPG agent.
        seed: Seed of all random numbers.
        pool: Builds the pool that scores rollouts.
        select: The split that decides among the finalists.
        run: Its folder has the state, `rollouts.csv` and what an agent has learned.
        earlier: Policy that the search starts from.

    Raises:
        UserError: No rollout could be scored, or `earlier` learned from another reward.
        RuntimeError: The proposer proposed no profile of this target.
    """
    seeds, longest = _seeds(context, config), config.ws_search_time
    if earlier is not None:
        earlier.refuse_other_reward(evaluator.rewarded())
        seeds = earlier.seeds | seeds
    with pool(evaluator) as workers:
        at = build_goal_problems(evaluator, config, evaluate=workers.evaluate)
        problem, ends = at(config.ws_prune_ratio), config.goal_range or ()
        proposer = build_proposer(
            problem,
            config,
            agent=agent,
            seed=seed,
            goals=at if ends else None,
            earlier=None if earlier is None else earlier.policy,
        )
        search = Search(
            problem=problem,
            proposer=proposer,
            seeds=seeds | {f"prior at {target:g}": at(target).prior for target in ends},
            rollouts=config.ws_nb_rlouts,
            per_round=config.ws_rlouts_per_round,
            state=run.state / "search.pt",
            table=run.rollouts,
            metric=as_metric(evaluator.metric).name,
            rewarded=evaluator.rewarded(),
            seed=seed,
            patience=config.ws_patience,
            seconds=None if longest is None else parse_duration(longest),
            budgets=_budgets(context, seeds),
            in_units=evaluator.scored,
            shown=None if context.restated is None else context.restated.shown,
        )
        history = search.run()
        facts = _left_behind(
            proposer,
            history,
            problem=problem,
            model=model,
            config=config,
            rewarded=evaluator.rewarded(),
            run=run,
            restated=context.restated,
        )
    say_failures(history, split="search")
    finalists = take_finalists(search.at_target(), problem, count=config.ws_nb_rescore)
    chosen, again = finalists[0], tuple[Rollout, ...]()
    if len(finalists) > 1:
        enter_phase("finalists")
        with pool(evaluator.on(select)) as workers:
            finals = score_finalists(
                finalists,
                problem=problem,
                evaluate=workers.evaluate,
                in_units=evaluator.scored,
                jitters=config.ws_nb_jitters,
                seed=seed,
                together=config.ws_rlouts_per_round,
            )
        again = finals.rows
        write_text(run.rollouts, search.table_of([*history, *again]))
        chosen = finalists[choose(finals, problem=problem)]
    return Decision(
        zeros=chosen.zeros,
        rollouts=len(history),
        failed=count_failed(history) + count_failed(again),
        stopped=search.stopped,
        chosen=history.index(chosen),
        facts=facts,
    )


def _left_behind(proposer: Proposer, history: Sequence[Rollout], **about: Any) -> Mapping[str, Any]:
    """Write what an agent has learned, if there is one; entries of the summary."""
    from agents import GoalSearch
    from ws_learner.search.after_search import leave_policy

    return leave_policy(proposer, history, **about) if isinstance(proposer, GoalSearch) else {}


def _seeds(context: AllocationContext, config: WeightSparseConfig) -> dict[str, IntArray]:
    """Profiles that are scored first: in closed form, and of an earlier search."""
    seeds = seed_profiles(context)
    if config.ws_rollouts is not None:
        again = load_earlier_profiles(config.ws_rollouts, context, count=_EARLIER)
        seeds |= {f"earlier {place}": zeros for place, zeros in enumerate(again)}
    return seeds


def _budgets(context: AllocationContext, seeds: Mapping[str, IntArray]) -> frozenset[int]:
    """Numbers of zeros at the target; N:M profiles meet it only as nearly as whole N allow."""
    near = seeds.values() if context.choices is not None else ()
    return frozenset([context.budget, *(int(zeros.sum()) for zeros in near)])
