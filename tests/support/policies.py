"""A policy of a network of two layers, as a search leaves one."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from agents.critic import Observed
from tests.support.layer_rows import layer_rows
from ws_learner.search.policy_file import SavedPolicy

__all__ = ["a_policy"]

SIZES = [100, 400]


def a_policy(*, own: bool = True, rows: int = 3) -> SavedPolicy:
    rng = np.random.default_rng(0)
    seen = tuple(
        Observed(
            point=-rng.uniform(1, 2, 2),
            executed=-rng.uniform(2, 3, 2),
            value=float(rng.uniform()),
            slopes=np.array([np.nan, rng.normal()]),
        )
        for _ in range(rows)
    )
    rows_of = layer_rows(SIZES, exempt=(1,))
    rows_of = (dataclasses.replace(rows_of[0], fan=(4, 25), most=75), rows_of[1])
    return SavedPolicy(
        layers=rows_of,
        network="abc",
        target=0.9,
        goals=(0.5, 0.95),
        targets=(0.5, 0.9, 0.95),
        score_power=0.75,
        by_divergence=True,
        rewarded="",
        bounds={"ws_ratio_bounds": "wide", "ws_ratio_min": 0.0, "ws_ratio_max": 0.995},
        pattern="unstructured",
        curve_ratios=np.array([0.0, 0.5, 1.0]),
        curves=rng.uniform(size=(2, 3)),
        own_densities=np.array([0.0, 0.1, 0.7]) if own else None,
        own=rng.uniform(size=(2, 3)) if own else None,
        seen=seen,
        actor={"free": torch.randn(2, 2), "mu.0.bias": torch.randn(3)},
    )
