"""Several patterns or number formats among which each layer's is chosen. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ws_learner.config.pattern_syntax import AUTO_PATTERNS, parse_pattern_spec
from ws_learner.config.registries import METHODS
from ws_learner.core import chosen_settings

if TYPE_CHECKING:
    from ws_learner.config.learner import WeightSparseConfig

__all__ = ["STOCK_ENGINES", "budget_conflicts", "is_joint", "pattern_list"]

STOCK_ENGINES = ("onnxruntime", "openvino", "torch")
"""Engines that multiply by zeros: there whole channels, heads and neurons are removed."""

_CHOOSING = ("knapsack", "divergence", "random", "evolution", "bayesian", "surrogate", "optimal")


def is_joint(text: str) -> bool:
    """Whether `ws_pattern` names several patterns: `auto`, or a list with commas."""
    return text.strip().lower() == "auto" or ("," in text and "@" not in text)


def pattern_list(text: str) -> tuple[str, ...]:
    """The canonical spellings of one pattern or of several; of none, `unstructured`.

    Raises:
        UserError: One is no pattern.
    """
    if text.strip().lower() == "auto":
        return AUTO_PATTERNS
    parts = text.split(",") if is_joint(text) else [text]
    found = [str(parse_pattern_spec(part)) for part in parts if part.strip()]
    return tuple(dict.fromkeys(found)) or ("unstructured",)


def budget_conflicts(config: WeightSparseConfig) -> Iterator[str]:
    """A line for each setting that does not go with the budget, or the joint choice without one."""
    if not config.budgets:
        if is_joint(config.ws_pattern):
            yield (
                f"`ws_pattern` {config.ws_pattern}: a choice of patterns needs `ws_budget`, such "
                "as latency=0.4@wsr"
            )
        return
    where = f"`ws_budget` {config.ws_budget or config.ws_goals}"
    yield from _others(config, where)
    if config.chooses:
        yield from _one_only(config)
    yield from _engines(config, where)


def may_choose(protocol: str) -> bool:
    """Whether a protocol can choose among patterns and number formats."""
    return protocol in _CHOOSING


def _others(config: WeightSparseConfig, where: str) -> Iterator[str]:
    """Settings that say themselves how many weights go."""
    if "ws_prune_ratio" in chosen_settings(config):
        yield f"{where}: takes the place of `ws_prune_ratio`; leave one out"
    for name in ("ws_ratios", "ws_rollouts", "ws_from_policy"):
        if getattr(config, name) is not None:
            yield f"{where}: does not go with `{name}`; leave one out"
    if METHODS[config.ws_method].keeps_zeros or METHODS[config.ws_method].trains_nm:
        yield f"{where}: `ws_method` {config.ws_method} sets the ratios itself; leave one out"
    if config.ws_ratio_bounds == "pocketflow":
        yield f"{where}: `ws_ratio_bounds` pocketflow depends on `ws_prune_ratio`; take wide"
    if config.ws_scope == "global":
        yield f"{where}: needs `ws_scope` local, since the ratios of layers decide the cost"
    if not is_joint(config.ws_pattern) and parse_pattern_spec(config.pattern_spelling).sets_ratios:
        yield f"{where}: the pattern {config.ws_pattern} sets every ratio; take auto, or n:4"


def _one_only(config: WeightSparseConfig) -> Iterator[str]:
    """Settings that take one pattern and number format for all layers."""
    if not may_choose(config.ws_prune_ratio_prtl):
        yield (
            f"`ws_prune_ratio_prtl` {config.ws_prune_ratio_prtl}: cannot choose among patterns or "
            f"number formats; take one of {', '.join(_CHOOSING)}"
        )
    if config.ws_goals is not None:
        yield f"`ws_goals` {config.ws_goals}: takes one pattern and number format"
    if config.ws_policy is not None:
        yield f"`ws_policy` {config.ws_policy}: knows one pattern and number format"


def _engines(config: WeightSparseConfig, where: str) -> Iterator[str]:
    engines = {one.engine or "wsr" for one in config.budgets if one.kind == "latency"}
    stock = sorted(engines.intersection(STOCK_ENGINES))
    if len(engines) > 1 and stock:
        yield f"{where}: latencies of {', '.join(sorted(engines))} at once; name one engine"
    if stock and config.ws_pattern and pattern_list(config.ws_pattern) != ("1xchannel",):
        yield (
            f"{where}: {stock[0]} gains nothing from `ws_pattern` {config.ws_pattern}; leave it "
            "out, so that whole channels, heads and neurons go, or take latency@wsr"
        )
    if stock:
        yield from _whole_units(config, stock[0])
    if stock and "int8" in config.dtypes:
        yield (
            f"`ws_dtype` {config.ws_dtype}: with {stock[0]} only fp32 is chosen; export the "
            "finished network in bytes"
        )


def _whole_units(config: WeightSparseConfig, engine: str) -> Iterator[str]:
    """Settings of ratios and training that whole channels, heads and neurons do not have."""
    where = f"with a latency in {engine} whole channels, heads and neurons go"
    for name in ("ws_max_ratios", "ws_min_ratios", "ws_fixed_ratios"):
        if getattr(config, name) is not None:
            yield f"`{name}`: {where}, not ratios of layers; take `ws_exempt`, or latency@wsr"
    chosen = chosen_settings(config)
    for name in ("ws_method", "ws_init", "ws_ratio_min", "ws_ratio_max"):
        if name in chosen and getattr(config, name) != getattr(type(config), name):
            yield (
                f"`{name}` {getattr(config, name)}: {where} before the training; leave it out, or "
                "take latency@wsr"
            )
