"""The settings of what is run within a budget: the search in ticks, the training of whole units."""

from __future__ import annotations

from dataclasses import replace

from ws_learner.config import WeightSparseConfig

__all__ = ["locked_settings", "plain_settings"]


def plain_settings(config: WeightSparseConfig, *, saved: float) -> WeightSparseConfig:
    """The settings of the restated problem: the target is the share of the cost that is saved."""
    goals = config.goal_range
    return replace(
        config,
        ws_budget=None,
        ws_dtype="fp32",
        ws_pattern=config.pattern_spelling if config.ws_pattern else "",
        ws_location="",
        ws_qkv_pattern="",
        ws_sparse_dim="row",
        ws_prune_ratio=saved,
        ws_ratio_max=max(config.ws_ratio_max, saved),
        ws_goals=None if goals is None else f"{goals[0]:.12g}:{goals[1]:.12g}",
    )


def locked_settings(config: WeightSparseConfig) -> WeightSparseConfig:
    """The settings of a training that keeps the zeros of whole units."""
    return replace(
        config,
        ws_budget=None,
        ws_pattern="",
        ws_method="pattern_lock",
        ws_prune_ratio_prtl="given",
        ws_init="dense",
        ws_keep_zeros=None,
    )
