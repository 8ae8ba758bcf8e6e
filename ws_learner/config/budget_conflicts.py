"""Settings that do not go with a budget. Free of torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ws_learner.config.joint import CHOOSING, STOCK_ENGINES, is_joint, may_choose, pattern_list
from ws_learner.config.methods import MethodSettings
from ws_learner.config.pattern_syntax import parse_pattern_spec
from ws_learner.config.registries import METHODS
from ws_learner.config.search import SearchSettings

__all__ = ["budget_conflicts"]

Settings = Mapping[str, Any]

_TRAINED_ANEW = {
    "ws_method": MethodSettings.ws_method,
    "ws_init": "dense",
    "ws_ratio_min": SearchSettings.ws_ratio_min,
    "ws_ratio_max": SearchSettings.ws_ratio_max,
}
"""Settings that whole units do not have, and their defaults."""


def budget_conflicts(values: Settings, *, chosen: Collection[str]) -> Iterator[str]:
    """A line for each setting that does not go with the budget, or the joint choice without one.

    Args:
        values: Every setting of `WeightSparseConfig`, and its `budgets`, `dtypes`, `chooses` and
            `pattern_spelling`.
        chosen: Names of the settings that the user chose.
    """
    if not values["budgets"]:
        if is_joint(values["ws_pattern"]):
            yield (
                f"`ws_pattern` {values['ws_pattern']}: a choice of patterns needs `ws_budget`, "
                "such as latency=0.4@wsr"
            )
        return
    where = f"`ws_budget` {values['ws_budget'] or values['ws_goals']}"
    yield from _others(values, where, chosen)
    if values["chooses"]:
        yield from _one_only(values)
    yield from _engines(values, where, chosen)


def _others(values: Settings, where: str, chosen: Collection[str]) -> Iterator[str]:
    """Settings that say themselves how many weights go."""
    if "ws_prune_ratio" in chosen:
        yield f"{where}: takes the place of `ws_prune_ratio`; leave one out"
    for name in ("ws_ratios", "ws_rollouts", "ws_from_policy"):
        if values[name] is not None:
            yield f"{where}: does not go with `{name}`; leave one out"
    if METHODS[values["ws_method"]].keeps_zeros or METHODS[values["ws_method"]].trains_nm:
        yield f"{where}: `ws_method` {values['ws_method']} sets the ratios itself; leave one out"
    if values["ws_ratio_bounds"] == "pocketflow":
        yield f"{where}: `ws_ratio_bounds` pocketflow depends on `ws_prune_ratio`; take wide"
    if values["ws_scope"] == "global":
        yield f"{where}: needs `ws_scope` local, since the ratios of layers decide the cost"
    if (
        not is_joint(values["ws_pattern"])
        and parse_pattern_spec(values["pattern_spelling"]).sets_ratios
    ):
        yield f"{where}: the pattern {values['ws_pattern']} sets every ratio; take auto, or n:4"


def _one_only(values: Settings) -> Iterator[str]:
    """Settings that take one pattern and number format for all layers."""
    protocol = values["ws_prune_ratio_prtl"]
    if not may_choose(protocol):
        yield (
            f"`ws_prune_ratio_prtl` {protocol}: cannot choose among patterns or "
            f"number formats; take one of {', '.join(CHOOSING)}"
        )
    if values["ws_goals"] is not None:
        yield f"`ws_goals` {values['ws_goals']}: takes one pattern and number format"
    if values["ws_policy"] is not None:
        yield f"`ws_policy` {values['ws_policy']}: knows one pattern and number format"


def _engines(values: Settings, where: str, chosen: Collection[str]) -> Iterator[str]:
    engines = {one.engine or "wsr" for one in values["budgets"] if one.kind == "latency"}
    stock = sorted(engines.intersection(STOCK_ENGINES))
    if len(engines) > 1 and stock:
        yield f"{where}: latencies of {', '.join(sorted(engines))} at once; name one engine"
    if stock and values["ws_pattern"] and pattern_list(values["ws_pattern"]) != ("1xchannel",):
        yield (
            f"{where}: {stock[0]} gains nothing from `ws_pattern` {values['ws_pattern']}; leave it "
            "out, so that whole channels, heads and neurons go, or take latency@wsr"
        )
    if stock:
        yield from _whole_units(values, stock[0], chosen)
    if stock and "int8" in values["dtypes"]:
        yield (
            f"`ws_dtype` {values['ws_dtype']}: with {stock[0]} only fp32 is chosen; export the "
            "finished network in bytes"
        )


def _whole_units(values: Settings, engine: str, chosen: Collection[str]) -> Iterator[str]:
    """Settings of ratios and training that whole channels, heads and neurons do not have."""
    where = f"with a latency in {engine} whole channels, heads and neurons go"
    for name in ("ws_max_ratios", "ws_min_ratios", "ws_fixed_ratios"):
        if values[name] is not None:
            yield f"`{name}`: {where}, not ratios of layers; take `ws_exempt`, or latency@wsr"
    for name, usual in _TRAINED_ANEW.items():
        if name in chosen and values[name] != usual:
            yield (
                f"`{name}` {values[name]}: {where} before the training; leave it out, or "
                "take latency@wsr"
            )
