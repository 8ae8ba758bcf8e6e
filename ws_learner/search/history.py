"""The rollouts of a search: kept in order, written as a table, read back on resume."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from envs import IntArray, LayerRow, Score

__all__ = ["Rollout", "best", "distinct_best", "frame", "from_plain", "to_plain"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rollout:
    """One scored candidate.

    Attributes:
        kind: Who proposed it: `prior` for a cheap profile, `random`, `mutation`, `model`,
            `warm-up`, `agent`, `final`; or `select` for one of the best, scored again on the
            select split.
        zeros: (L,) zero counts.
        score: What it scored.
    """

    kind: str
    zeros: IntArray
    score: Score


def best(rollouts: Sequence[Rollout]) -> Rollout:
    """The rollout of the highest reward that did not fail; the first among equals."""
    return max(rollouts, key=lambda rollout: (not rollout.score.failed, rollout.score.reward))


def distinct_best(rollouts: Sequence[Rollout], count: int) -> list[Rollout]:
    """Up to `count` rollouts of different profiles, best first; ties keep their order."""
    ranked = sorted(
        (rollout for rollout in rollouts if not rollout.score.failed),
        key=lambda rollout: -rollout.score.reward,
    )
    seen: dict[bytes, Rollout] = {}
    for rollout in ranked:
        seen.setdefault(rollout.zeros.tobytes(), rollout)
    return list(seen.values())[:count]


def frame(rollouts: Sequence[Rollout], layers: Sequence[LayerRow]) -> pd.DataFrame:
    """One row per rollout: who, how good, and the zeros of each layer."""
    total = sum(row.weights for row in layers)
    rows = []
    for index, rollout in enumerate(rollouts):
        values: dict[str, Any] = {"rollout": index, "kind": rollout.kind}
        score = dataclasses.asdict(rollout.score)
        values |= {key: score[key] for key in ("reward", "accuracy", "accuracy_before")}
        values |= {"divergence": score["divergence"]}
        values |= {"overall_ratio": int(rollout.zeros.sum()) / total}
        values |= {"seconds": round(score["seconds"], 3), "failed": score["failed"]}
        counts = zip(layers, rollout.zeros.tolist(), strict=True)
        values |= {f"zeros/{row.name}": count for row, count in counts}
        rows.append(values)
    return pd.DataFrame(rows)


def to_plain(rollouts: Sequence[Rollout]) -> list[dict[str, Any]]:
    """As JSON values; floats survive exactly."""
    return [
        {"kind": r.kind, "zeros": r.zeros.tolist(), "score": dataclasses.asdict(r.score)}
        for r in rollouts
    ]


def from_plain(rows: Sequence[dict[str, Any]]) -> list[Rollout]:
    """Back from `to_plain`."""
    return [
        Rollout(
            kind=row["kind"],
            zeros=np.array(row["zeros"], dtype=np.int64),
            score=Score(**row["score"]),
        )
        for row in rows
    ]
