"""Settings of the search for ratios and of a rollout; part of `WeightSparseConfig`. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ws_learner.config.budget import Budget, parse_budgets, parse_goals
from ws_learner.config.duration import parse_duration
from ws_learner.config.rollout import RewardType
from ws_learner.core import (
    NumberFormat,
    UserError,
    check_settings,
    plain_number,
    ratios_from,
    share_hint,
)

__all__ = ["NAMED_RATIOS", "RewardType", "SearchSettings"]

NAMED_RATIOS = ("ws_max_ratios", "ws_min_ratios", "ws_fixed_ratios")
"""Settings with a ratio for each layer that they name."""

_USUAL_SHARE = 0.25  # kept, where only a range of goals says the unit; 1 - `ws_prune_ratio`


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """How profiles are proposed and scored."""

    ws_rollouts: Path | None = None
    """rollouts.csv of an earlier search on this network, for any target: its best profiles,
    brought to this target, are scored first, beside those that need no search."""
    ws_budget: str | None = None
    """What the finished network may cost, instead of a prune ratio: macs=0.3 keeps 0.3 of the dense
    network's; latency=8ms@onnxruntime,bytes=2MB is two at once. Units: params, macs, bytes, and
    latency in wsr, onnxruntime, openvino or torch (docs/budgets.md)."""
    ws_dtype: str = "fp32"
    """Number formats among which each layer's is chosen: fp32, int8 or fp32,int8. Others than fp32
    need a budget."""
    ws_latency_batch: int = 1
    """Examples per call where a budget is a latency."""
    ws_latency_threads: int = 1
    """Threads per call where a budget is a latency."""
    ws_goals: str | None = None
    """Least and greatest prune ratio of one search for many targets, such as 0.5:0.985, or shares
    kept of a unit, such as macs=0.1:0.6; the run's own is added; optimal only. The run saves a
    policy for any target between them."""
    ws_policy: Path | None = None
    """Run directory of an optimal search on this network, or its policy.safetensors: gives the
    profile instead of the protocol, for any target, without a rollout."""
    ws_from_policy: Path | None = None
    """The same as the start of an optimal search: its agent, and its profiles, which teach the
    critic."""
    ws_nb_rlouts: int = 64
    """Rollouts of the search: choose a profile, prune, regress, fine-tune, evaluate."""
    ws_nb_rlouts_min: int = 20
    """Rollouts before the agent of ddpg and surrogate is trained."""
    ws_rlouts_per_round: int = 4
    """Rollouts proposed before any of them is scored; they run in parallel."""
    ws_reward_type: RewardType = "single-obj"
    """single-obj: every rollout spends the budget exactly, the reward is its quality (see
    ws_reward_signal). multi-obj: the total is free within the bounds, the reward is quality x
    ln(1 + ratio)."""
    ws_reward_signal: Literal["accuracy", "kl"] = "kl"
    """What the reward measures on the search images: accuracy (the experiment's metric), or
    exp(-KL divergence from the dense network's predictions), which is smoother."""
    ws_score_power: float = 0.75
    """A profile is scored with all its densities scaled by one factor, so that the network keeps
    (its density)^power of its weights: 95 % sparse is scored at 89 %. Pruned further at once, a
    network is too far gone to tell what training would make of it. 1: scored as it is."""
    ws_patience: int = 10
    """The search ends if its best reward has not risen by more than 0.001 for so many rounds; 0:
    only when its rollouts are used up."""
    ws_search_time: str | float | None = None
    """No round starts once the search has taken so long: 90s, 10m, 1.5h, or 600 for seconds. Such a
    result depends on the speed of the machine."""
    ws_nb_rescore: int = 4
    """Rollouts, the finalists, that are scored again on the select split before one is chosen: the
    best, and from 2 on the best profile that the search started from."""
    ws_nb_jitters: int = 3
    """Jittered copies, with densities changed by about 3 %, by whose mean reward the finalists are
    compared; 0: each is scored as it is."""
    ws_ratio_bounds: Literal["wide", "pocketflow"] = "wide"
    """wide: every layer within [ws_ratio_min, ws_ratio_max].
    pocketflow: within [1 - 3 (1 - p), 1 - (1 - p) / 3] for the target p."""
    ws_ratio_min: float = 0.0
    """Least prune ratio of a layer."""
    ws_ratio_max: float = 0.995
    """Largest prune ratio of a layer."""
    ws_max_ratios: Mapping[str, float] | Path | None = None
    """Caps of single layers: `conv1=0.5,layer3.*=0.95`, or a CSV, YAML or JSON file; in Python a
    dict, too. Names of parameters or modules, shell patterns, re:REGEX. A named layer's cap takes
    the place of ws_ratio_max."""
    ws_min_ratios: Mapping[str, float] | Path | None = None
    """Floors of single layers, likewise, in place of ws_ratio_min."""
    ws_fixed_ratios: Mapping[str, float] | Path | None = None
    """Ratios that single layers get exactly, likewise; the protocol decides about the others."""
    ws_action_scale: Literal["log-density", "linear"] = "log-density"
    """How an action in [-1, 1] maps to a ratio; 0 is the layer's ratio in the best of the
    profiles that need no search."""
    ws_rg_solver: Literal["closed-form", "adam", "none"] = "closed-form"
    """Layer-wise regression: masked least squares, PocketFlow's Adam steps, or none."""
    ws_lrn_rate_rg: float = 3e-2
    """Learning rate of layer-wise regression by Adam."""
    ws_nb_iters_rg: int = 20
    """Steps per layer of layer-wise regression by Adam."""
    ws_nb_smpls_rg: int = 512
    """Training images for the Gram matrices of closed-form regression."""
    ws_nb_smpls_bn: int = 256
    """Training images on which batch norm is recalibrated in a rollout."""
    ws_nb_smpls_slope: int = 100
    """Search images on which a rollout of optimal measures its slopes, in whole batches; 0: none,
    so that the critic learns from values alone."""
    ws_nb_smpls_own: int = 100
    """Search images on which each layer's own divergence is measured, in whole batches."""
    ws_lrn_rate_ft: float = 3e-4
    """Learning rate of global fine-tuning (Adam)."""
    ws_nb_iters_ft: int = 0
    """Steps of global fine-tuning in a rollout; off by default: it did not improve the ranking of
    candidates."""
    ws_batch_size_ft: int = 64
    """Images per step of global fine-tuning."""
    ws_nb_iters_feval: int = 5
    """Batches (of 100) of the search split in a fast evaluation; 0 or less: the whole split."""

    def __post_init__(self) -> None:
        check_settings(self)
        self.read_named_ratios()

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """The budgets of `ws_budget`; with a range of a unit in `ws_goals` only, one within it.

        Raises:
            UserError: One cannot be understood.
        """
        if self.ws_budget is not None:
            return parse_budgets(self.ws_budget)
        if self.ws_goals is None or "=" not in self.ws_goals:
            return ()
        unit, low, high = parse_goals(self.ws_goals)
        return parse_budgets(f"{unit}={min(max(_USUAL_SHARE, low), high):g}")

    @property
    def dtypes(self) -> tuple[NumberFormat, ...]:
        """The number formats of `ws_dtype`."""
        words = [word.strip() for word in self.ws_dtype.lower().split(",") if word.strip()]
        known = get_args(NumberFormat)
        return tuple(name for name in known if name in words)

    @property
    def goal_range(self) -> tuple[float, float] | None:
        """Least and greatest prune ratio of `ws_goals`; of a unit, share saved."""
        if self.ws_goals is None:
            return None
        if "=" in self.ws_goals:
            _, kept_least, kept_most = parse_goals(self.ws_goals)
            return round(1 - kept_most, 12), round(1 - kept_least, 12)
        low, _, high = self.ws_goals.partition(":")
        return float(low), float(high)

    def _goal_problems(self) -> Iterator[str]:
        if self.ws_goals is None:
            return
        try:
            low, high = self.goal_range or (0.0, 0.0)
        except UserError as error:
            yield str(error)
            return
        except ValueError:
            low, high = 0.0, 0.0
        if not 0 < low < high < 1:
            yield (
                f"`ws_goals` {self.ws_goals}: must be two prune ratios LEAST:GREATEST between 0 "
                f"and 1, the smaller one first, such as 0.5:0.985{_range_hint(self.ws_goals)}"
            )
        elif high > self.ws_ratio_max:
            yield (
                f"`ws_goals` {self.ws_goals}: the greatest must be at most `ws_ratio_max` "
                f"({self.ws_ratio_max})"
            )

    def _budget_problems(self) -> Iterator[str]:
        words = {word.strip() for word in self.ws_dtype.lower().split(",")}
        if not words <= set(get_args(NumberFormat)):
            yield f"`ws_dtype` {self.ws_dtype}: must be fp32, int8 or fp32,int8"
        try:
            budgets = self.budgets
        except UserError as error:
            yield str(error)
            return
        if not budgets and self.dtypes != ("fp32",) and words <= set(get_args(NumberFormat)):
            yield (
                f"`ws_dtype` {self.ws_dtype}: needs `ws_budget`, such as latency=0.4@wsr; without "
                "one, bytes are chosen when a network is compiled or exported"
            )
        if budgets and self.ws_reward_type != "single-obj":
            yield f"`ws_budget` {self.ws_budget}: needs `ws_reward_type` single-obj"
        if self.ws_goals is not None and budgets:
            yield from self._wrong_unit(budgets)

    def _wrong_unit(self, budgets: tuple[Budget, ...]) -> Iterator[str]:
        """A range of goals is in the budget's unit, of which there is one."""
        unit = parse_goals(self.ws_goals or "")[0] if "=" in (self.ws_goals or "") else None
        if len(budgets) > 1 or unit != budgets[0].unit or not budgets[0].share:
            yield (
                f"`ws_goals` {self.ws_goals}: with `ws_budget` {self.ws_budget} give both as "
                "shares of one unit, such as macs=0.3 and macs=0.1:0.6"
            )

    def named_ratios(self, name: str) -> dict[str, float]:
        """Layer or pattern -> ratio of one of `NAMED_RATIOS`; empty if it is not set."""
        given = getattr(self, name)
        return dict(given) if isinstance(given, Mapping) else {}

    def read_named_ratios(self) -> None:
        """Put a dict in the place of a text, a frame or a file.

        Raises:
            UserError: One of them cannot be understood.
        """
        for name in NAMED_RATIOS:
            if getattr(self, name) is not None:
                object.__setattr__(self, name, ratios_from(getattr(self, name), setting=name))

    def search_problems(self) -> Iterator[str]:
        """A line for each setting that is out of range."""
        yield from self._goal_problems()
        yield from self._budget_problems()
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value < least:
                yield f"`{name}` {value}: must be at least {least}"
        for name in ("ws_ratio_min", "ws_ratio_max"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                said = plain_number(value)
                yield f"`{name}` {said}: must be a share in [0, 1]{share_hint(value)}"
        for name in ("ws_lrn_rate_rg", "ws_lrn_rate_ft"):
            if not 0 < getattr(self, name) < math.inf:
                yield f"`{name}` {plain_number(getattr(self, name))}: must be a number above 0"
        yield from self._wrong_time()
        if not 0 < self.ws_score_power <= 1:
            said = plain_number(self.ws_score_power)
            yield f"`ws_score_power` {said}: must be above 0, at most 1"
        if self.ws_ratio_min > self.ws_ratio_max:
            yield (
                f"`ws_ratio_min` {self.ws_ratio_min}: must not exceed "
                f"`ws_ratio_max` ({self.ws_ratio_max})"
            )
        if self.ws_nb_rlouts < self.ws_nb_rlouts_min:
            yield (
                f"`ws_nb_rlouts` {self.ws_nb_rlouts}: must be at least "
                f"`ws_nb_rlouts_min` ({self.ws_nb_rlouts_min}), the rollouts before the agent "
                "learns; lower that too"
            )

    def _wrong_time(self) -> Iterator[str]:
        if self.ws_search_time is None:
            return
        try:
            parse_duration(self.ws_search_time)
        except ValueError as error:
            yield f"`ws_search_time` {self.ws_search_time}: {error}"


_LEAST = {
    "ws_nb_rlouts": 1,
    "ws_nb_rlouts_min": 1,
    "ws_rlouts_per_round": 1,
    "ws_patience": 0,
    "ws_nb_rescore": 1,
    "ws_nb_jitters": 0,
    "ws_nb_iters_rg": 1,
    "ws_nb_smpls_rg": 1,
    "ws_nb_smpls_bn": 0,
    "ws_latency_batch": 1,
    "ws_latency_threads": 1,
    "ws_nb_smpls_slope": 0,
    "ws_nb_smpls_own": 1,
    "ws_nb_iters_ft": 0,
    "ws_batch_size_ft": 1,
}


def _range_hint(goals: str) -> str:
    """The question for a range of percentages, such as `50:98`."""
    hints = [share_hint(end) for end in goals.split(":")]
    if len(hints) != 2 or not all(hints):
        return ""
    low, high = (hint.split()[-1].rstrip("?") for hint in hints)
    return f"; did you mean {low}:{high}?"
