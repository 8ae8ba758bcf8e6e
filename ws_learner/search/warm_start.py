"""Warm start: profiles of an earlier search, for any target, as seeds of this one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from envs import IntArray, LayerRow, project
from ws_learner.core import UserError
from ws_learner.report import read_rollouts
from ws_learner.search.context import AllocationContext

__all__ = ["load_earlier_profiles"]


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
