"""Warm start: profiles or the policy of an earlier search, for any target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from envs import IntArray, LayerRow, project
from ws_learner.config import WeightSparseConfig
from ws_learner.core import UserError
from ws_learner.report import read_rollouts
from ws_learner.search.context import AllocationContext
from ws_learner.search.policy_file import SavedPolicy

__all__ = ["EarlierPolicy", "load_earlier_policy", "load_earlier_profiles"]


@dataclass(frozen=True, kw_only=True, eq=False)
class EarlierPolicy:
    """The policy that a search starts from.

    Attributes:
        path: As the user gave it.
        policy: What the file holds.
        seeds: Its best profile at this target, by name; empty if it has none.
    """

    path: Path
    policy: SavedPolicy
    seeds: dict[str, IntArray]

    def refuse_other_reward(self, rewarded: str) -> None:
        """Refuse a policy that learned from another reward than this search's."""
        if rewarded != self.policy.rewarded:
            usual = "as a classifier"
            raise UserError(
                f"`ws_from_policy` {self.path}: learned from rollouts rewarded "
                f"{self.policy.rewarded or usual}, here they are rewarded {rewarded or usual}; "
                "leave it out, or give `outputs` and metric as they were"
            )


def load_earlier_policy(
    config: WeightSparseConfig, context: AllocationContext, model: nn.Module
) -> EarlierPolicy | None:
    """Load the policy that `ws_from_policy` names; None without.

    Raises:
        UserError: It cannot be used, is for another layer table, or learned from other rewards.
    """
    path = config.ws_from_policy
    if path is None:
        return None
    from ws_learner.search.policy_use import open_policy, policy_problems, rescaled_best

    saved = open_policy(path, context.layers, model, setting="ws_from_policy")
    if saved.by_divergence != (config.ws_reward_signal == "kl"):
        signal = "kl" if saved.by_divergence else "accuracy"
        raise UserError(
            f"`ws_from_policy` {path}: learned from `ws_reward_signal` {signal}, not from "
            f"{config.ws_reward_signal}; leave it out, or set `ws_reward_signal` {signal}"
        )
    if saved.pattern != config.pattern_spelling:
        raise UserError(
            f"`ws_from_policy` {path}: learned from the pattern {saved.pattern}, not from "
            f"{config.pattern_spelling}; leave it out, or set `ws_pattern` as it was"
        )
    at = policy_problems(saved, context.layers, config, model)
    best = rescaled_best(saved, at, config.ws_prune_ratio)
    seeds = {} if best is None else {"earlier policy": best}
    return EarlierPolicy(path=path, policy=saved, seeds=seeds)


def load_earlier_profiles(path: Path, context: AllocationContext, *, count: int) -> list[IntArray]:
    """Load the best profiles of another run's `rollouts.csv`, projected onto this target.

    All densities of a profile are multiplied by one factor and clipped to the bounds.

    Args:
        path: The `rollouts.csv`.
        context: Layer table, budget and bounds of this search.
        count: Maximum number of distinct profiles.

    Returns:
        Profiles (L,), best first.

    Raises:
        UserError: The file cannot be read or belongs to another network, or all its rollouts
            failed.
    """
    try:
        table = read_rollouts(path)
        searched = table[table["kind"] != "select"]
        table = searched[(searched["failed"] == "") & np.isfinite(searched["reward"])]
        table = table.sort_values("reward", ascending=False, kind="stable")
        zeros = table[[f"zeros/{row.name}" for row in context.layers]].to_numpy(np.int64)
    except (OSError, UnicodeDecodeError, ValueError, KeyError) as error:
        raise UserError(
            f"`ws_rollouts` {path}: {error}; give the rollouts.csv of a search on this network"
        ) from error
    if not len(zeros):
        raise UserError(
            f"`ws_rollouts` {path}: none of its {len(searched)} rollouts has a score; give the "
            "rollouts.csv of another search, or leave it out"
        )
    _check(zeros, context.layers, path)
    best: dict[bytes, IntArray] = {}
    for profile in zeros:
        here = project(
            profile,
            budget=context.budget,
            lower=context.lower,
            upper=context.upper,
            weights=context.weights,
        )
        best.setdefault(here.tobytes(), here)
        if len(best) == count:
            break
    return list(best.values())


def _check(zeros: IntArray, layers: Sequence[LayerRow], path: Path) -> None:
    sizes = np.array([row.weights for row in layers])
    wrong = np.flatnonzero(((zeros < 0) | (zeros > sizes)).any(0))
    if wrong.size:
        row = layers[int(wrong[0])]
        raise UserError(
            f"`ws_rollouts` {path}: more zeros for {row.name} than its {row.weights} weights; "
            "give the rollouts.csv of a search on this network"
        )
