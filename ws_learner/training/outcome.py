"""Outcome of a pruning run: the verified layer table and the summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from envs import IntArray, LayerRow
from ws_learner.config import METHODS, WeightSparseConfig, parse_pattern_spec
from ws_learner.core import LayerChoice, warn
from ws_learner.data import DataSplits
from ws_learner.pruning import count_zeros, parse_pattern
from ws_learner.report import ratio_table, totals
from ws_learner.training.metric_spec import Metric, as_metric

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["build_summary", "metric_entries", "split_sizes", "verified_table"]


def verified_table(
    layers: Sequence[LayerRow],
    planned: IntArray,  # (L,)
    *,
    state: Mapping[str, Tensor],
    config: WeightSparseConfig,
    choices: Sequence[LayerChoice] | None = None,
    predicted_ms: Sequence[float] | None = None,
) -> pd.DataFrame:
    """Build the layer table with zeros counted in `state`; check them against the plan.

    Choices and predicted latencies of the layers fill optional columns, see `ratio_table`.

    Raises:
        RuntimeError: A layer, or the network, has fewer zeros than planned.
    """
    if config.ws_scope == "global" and not METHODS[config.ws_method].keeps_zeros:
        counts = [count_zeros(state[row.name]) for row in layers]
        if sum(counts) < int(planned.sum()):
            raise RuntimeError("fewer zeros saved than planned")
        planned = np.array(counts)  # the planned total, distributed by the scores
    frame = ratio_table(layers, planned, state, choices=choices, predicted_ms=predicted_ms)
    short = frame[frame["achieved"] < frame["prune_ratio"]]
    if len(short):
        raise RuntimeError(f"{short['layer'].iloc[0]}: fewer zeros saved than planned")
    _say_more({row.name: count_zeros(state[row.name]) for row in layers}, planned)
    return frame


def _say_more(zeros: Mapping[str, int], planned: IntArray) -> None:
    """Name the layers in which weights are zero that were not pruned."""
    more = sum(zeros.values()) - int(planned.sum())
    pairs = zip(zeros.items(), planned, strict=True)
    names = [name for (name, count), plan in pairs if count > plan]
    if more:
        warn(
            f"saved network: {sum(zeros.values())} zeros, {more} more than planned, in "
            f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}: weights that were not "
            "pruned but are exactly 0, as in a dense network with zeros, which training has not "
            "changed"
        )


def build_summary(
    frame: pd.DataFrame,
    *,
    config: WeightSparseConfig,
    rollouts: int,
    search_seconds: float,
    failed_rollouts: int = 0,
) -> dict[str, Any]:
    """Build the entries of `summary.json` on settings, search and zeros."""
    sums = totals(frame)
    method = METHODS[config.ws_method]
    locked = method.keeps_zeros
    given = config.ws_prune_ratio_prtl == "given" and config.ws_ratios is None
    fixed = parse_pattern_spec(config.pattern_spelling).fixed_ratio
    itself = locked or config.ws_ratios is not None or (given and fixed is None)
    scoped = "ws_scope" in method.settings
    return {
        "learner": "weight-sparse",
        "protocol": "policy" if config.ws_policy else config.ws_prune_ratio_prtl,
        "method": config.ws_method,
        "pattern": "as found" if locked else str(parse_pattern(config.pattern_spelling)),
        "criterion": _criterion(config),
        "scope": config.ws_scope if scoped else "local",
        "target_prune_ratio": sums["achieved_prune_ratio"] if itself else config.ws_prune_ratio,
        "achieved_prune_ratio": sums["achieved_prune_ratio"],
        "dense_macs": sums["dense_macs"],
        "kept_macs": sums["kept_macs"],
        "rollouts": rollouts,
        "failed_rollouts": failed_rollouts,
        "search_seconds": search_seconds,
        "train_seconds": 0.0,
        "init": config.ws_init,
        "distilled": config.enbl_dst,
        "versions": {"torch": torch.__version__},
    }


def _criterion(config: WeightSparseConfig) -> str:
    """What scored the weights; a method that does not read the flag names its own."""
    method = METHODS[config.ws_method]
    if method.default_criterion and config.ws_criterion == "magnitude":
        return method.default_criterion  # there the default stands for its own sum
    return method.criterion or config.ws_criterion


def split_sizes(data: DataSplits) -> dict[str, int]:
    """Number of examples of each split."""
    return {name: len(getattr(data, name)) for name in ("train", "search", "select", "test")}


def metric_entries(metric: Metric, **values: float | None) -> dict[str, Any]:
    """Entries of `summary.json` on a metric on the test split.

    An accuracy, which is a share of which more is better, and a perplexity are also entered under
    that name, such as `sparse_accuracy`.

    Args:
        metric: What was measured.
        values: The metric of each network, such as `dense` and `sparse`; None if there is none.
    """
    spec = as_metric(metric)
    entries: dict[str, Any] = {
        "metric": spec.name,
        "metric_unit": spec.unit,
        "higher_is_better": spec.higher_is_better,
    }
    own = "accuracy" if spec.accuracy else spec.name if spec.name == "perplexity" else None
    for network, value in values.items():
        entries[f"{network}_metric"] = value
        if own is not None:
            entries[f"{network}_{own}"] = value
    return entries
