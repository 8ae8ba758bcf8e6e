"""Profiles from a saved policy, for any target, without a rollout."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from agents import Emission, ProfilePolicy
from envs import AllocationProblem, IntArray, LayerRow, Score
from ws_learner.config import WeightSparseConfig
from ws_learner.core import AnyPath, UserError, as_path, reading, say, state_digest, warn
from ws_learner.search.context import Restatement, allocation_context
from ws_learner.search.policy_file import SavedPolicy, read_policy
from ws_learner.search.problem import problem_of

__all__ = [
    "Decision",
    "decide_by_policy",
    "decided",
    "open_policy",
    "policy_problems",
    "rescaled_best",
    "restored_policy",
]


class Decision(NamedTuple):
    """A profile that a policy gives.

    Attributes:
        zeros: (L,) zero counts.
        supplier: Who supplied it, see `Emission`.
        predicted_reward: exp(-divergence), of the profile as it would be scored.
    """

    zeros: IntArray
    supplier: str
    predicted_reward: float


def open_policy(
    given: AnyPath, layers: Sequence[LayerRow], model: nn.Module | None = None, *, setting: str
) -> SavedPolicy:
    """Read a policy for a network; other weights of it are accepted with a line.

    Raises:
        UserError: The file cannot be used, or is for another layer table.
    """
    given = as_path(given, name="given")
    saved = read_policy(given, setting=setting)
    _refuse_other_layers(saved, layers, where=f"`{setting}` {given}")
    if model is not None and state_digest(model) != saved.network:
        warn(
            f"`{setting}` {given}: was made for other weights of this network; what it predicts "
            "may be off"
        )
    return saved


def _refuse_other_layers(saved: SavedPolicy, layers: Sequence[LayerRow], *, where: str) -> None:
    for place in range(max(len(saved.layers), len(layers))):
        its = _named(saved.layers, place)
        ours = _named(layers, place)
        if its != ours:
            raise UserError(
                f"{where}: is for another layer table: row {place + 1} is {its} there, {ours} "
                "here; give a policy of this network, or the `ws_include` and `ws_exclude` of "
                "its search"
            )


def _named(layers: Sequence[LayerRow], place: int) -> str:
    if place >= len(layers):
        return "missing"
    return f"{layers[place].name} {'x'.join(map(str, layers[place].shape))}"


def policy_problems(
    saved: SavedPolicy,
    layers: Sequence[LayerRow],
    config: WeightSparseConfig,
    model: nn.Module,
    *,
    restated: Restatement | None = None,
) -> Callable[[float], AllocationProblem]:
    """Problems of a network at any target, with a policy's curves and these bounds.

    They cannot score anything. `model` is only read where the pattern is N:M. Where the layers are
    restated in units of cost, the bounds are those of `restated`.
    """
    densities, own = saved.own_densities, saved.own

    @cache
    def at(target: float) -> AllocationProblem:
        aimed = dataclasses.replace(
            config,
            ws_prune_ratio=target,
            ws_score_power=saved.score_power,
            ws_reward_signal="kl" if saved.by_divergence else "accuracy",
            ws_reward_type="single-obj",
        )
        known: dict[str, Any] = {
            "curves": lambda: (saved.curve_ratios, saved.curves),
            "own": lambda: None if densities is None or own is None else (densities, own),
        }
        if restated is not None:
            context = dataclasses.replace(restated.at(target), **known)
        else:
            context = allocation_context(model, tuple(layers), aimed, **known)
        return problem_of(context, aimed, evaluate=_no_score)

    return at


def _no_score(candidates: Sequence[IntArray]) -> list[Score]:
    raise RuntimeError("a saved policy scores no profiles")


def restored_policy(
    saved: SavedPolicy, at: Callable[[float], AllocationProblem], target: float
) -> ProfilePolicy:
    """The policy as it was saved, for emission.

    Raises:
        UserError: No layer has a choice at the target.
    """
    try:
        policy = ProfilePolicy(at(target), goals=at)
    except ValueError as error:
        raise UserError(str(error)) from error
    with reading("the policy", "give that of another search on this network"):
        policy.load_actor(saved.actor)
        policy.recall(saved.seen)
    return policy


def rescaled_best(
    saved: SavedPolicy, at: Callable[[float], AllocationProblem], target: float
) -> IntArray | None:
    """(L,) zeros of the scored profile that the critic likes best at the target; None without."""
    emitted = restored_policy(saved, at, target).emit(target)
    return next((one.zeros for one in emitted if one.supplier == "rescaled"), None)


def decided(emission: Emission) -> Decision:
    """An emission with its predicted reward."""
    return Decision(emission.zeros, emission.supplier, math.exp(-emission.divergence))


def _say_other_rewards(saved: SavedPolicy, config: WeightSparseConfig, given: Path) -> None:
    """A line for each setting under which the policy's rewards were not measured."""
    signal = "kl" if saved.by_divergence else "accuracy"
    for name, its, ours in (
        ("ws_score_power", saved.score_power, config.ws_score_power),
        ("ws_reward_signal", signal, config.ws_reward_signal),
        ("ws_pattern", saved.pattern, config.pattern_spelling),
    ):
        if its != ours:
            warn(
                f"`ws_policy` {given}: was searched with `{name}` {its}, not {ours}; the predicted "
                f"reward is that of {its}"
            )


def _refuse_other_unit(saved: SavedPolicy, unit: str, given: Path) -> None:
    if saved.unit != unit:
        remedy = "a prune ratio" if saved.unit == "params" else f"`ws_budget` {saved.unit}=SHARE"
        raise UserError(
            f"`ws_policy` {given}: knows budgets in {saved.unit}, not in {unit}; give {remedy}, or "
            f"search with `ws_budget` {unit}=SHARE first"
        )


def decide_by_policy(
    given: Path,
    layers: Sequence[LayerRow],
    config: WeightSparseConfig,
    model: nn.Module,
    *,
    restated: Restatement | None = None,
) -> tuple[IntArray, dict[str, Any]]:
    """The profile of a saved policy at the target of the settings.

    Args:
        given: The file, or its run.
        layers: The layer table; in units of cost where it is restated.
        config: The settings.
        model: The dense network.
        restated: How the layers are restated.

    Returns:
        (L,) zero counts, and `profile_by` and `predicted_reward` for the summary.

    Raises:
        UserError: The file cannot be used, or is for another layer table.
    """
    saved = open_policy(given, layers, model, setting="ws_policy")
    _refuse_other_unit(saved, "params" if restated is None else restated.unit, given)
    _say_other_rewards(saved, config, given)
    at = policy_problems(saved, layers, config, model, restated=restated)
    target = config.ws_prune_ratio
    if not saved.knows(target):
        low, high = saved.goals
        span = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        warn(f"`ws_policy` {given}: was trained for {span}; {target:g} is outside")
    zeros, supplier, reward = decided(restored_policy(saved, at, target).emit(target)[0])
    say(f"profile by {given} ({supplier}): predicted reward {reward:.4f} at {target:g}")
    return zeros, {"profile_by": supplier, "predicted_reward": round(reward, 6)}
