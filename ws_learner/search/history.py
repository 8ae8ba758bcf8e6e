"""History of a search: rollouts in order, as a table and as JSON for resuming."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from envs import IntArray, LayerRow, Score
from ws_learner.search.rollout.scoring import failed_score

__all__ = ["Rollout", "best", "distinct_best", "frame", "from_plain", "to_plain"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rollout:
    """One scored candidate.

    Attributes:
        kind: Proposer: `prior` for a closed-form profile, `random`, `mutation`, `model`,
            `warm-up`, `agent`, `final`; or `select` for one of the best, re-scored on the
            select split.
        zeros: (L,) zero counts.
        score: Its score. One that is NaN or infinite becomes a failure.
    """

    kind: str
    zeros: IntArray
    score: Score

    def __post_init__(self) -> None:
        score = self.score
        if not score.failed and not score.finite:
            failed = failed_score(
                f"FloatingPointError: reward {score.reward}, accuracy {score.accuracy}, "
                f"divergence {score.divergence}"
            )
            object.__setattr__(self, "score", dataclasses.replace(failed, seconds=score.seconds))


def best(rollouts: Sequence[Rollout]) -> Rollout:
    """Rollout of the highest reward that did not fail; the first one on ties.

    Raises:
        ValueError: All failed, or there is none.
    """
    scored = [rollout for rollout in rollouts if not rollout.score.failed]
    if not scored:
        raise ValueError(f"none of {len(rollouts)} rollouts has a score")
    return max(scored, key=lambda rollout: rollout.score.reward)


def distinct_best(rollouts: Sequence[Rollout], count: int) -> list[Rollout]:
    """Up to `count` rollouts of distinct profiles, best first; ties keep their order."""
    ranked = sorted(
        (rollout for rollout in rollouts if not rollout.score.failed),
        key=lambda rollout: -rollout.score.reward,
    )
    seen: dict[bytes, Rollout] = {}
    for rollout in ranked:
        seen.setdefault(rollout.zeros.tobytes(), rollout)
    return list(seen.values())[:count]


def frame(rollouts: Sequence[Rollout], layers: Sequence[LayerRow]) -> pd.DataFrame:
    """Table with one row per rollout: kind, score and the zeros of each layer."""
    total = sum(row.weights for row in layers)
    rows = []
    for index, rollout in enumerate(rollouts):
        values: dict[str, Any] = {"rollout": index, "kind": rollout.kind}
        score = vars(rollout.score)  # `asdict` copies every slope, of all rollouts every round
        values |= {key: score[key] for key in ("reward", "accuracy", "accuracy_before")}
        values |= {"divergence": score["divergence"]}
        values |= {"overall_ratio": int(rollout.zeros.sum()) / total}
        values |= {"seconds": round(score["seconds"], 3), "failed": score["failed"]}
        counts = zip(layers, rollout.zeros.tolist(), strict=True)
        values |= {f"zeros/{row.name}": count for row, count in counts}
        rows.append(values)
    return pd.DataFrame(rows)


def to_plain(rollouts: Sequence[Rollout]) -> list[dict[str, Any]]:
    """Convert to what JSON can hold; floats are exact."""
    return [
        {"kind": r.kind, "zeros": r.zeros.tolist(), "score": dict(vars(r.score))} for r in rollouts
    ]


def from_plain(rows: Sequence[dict[str, Any]]) -> list[Rollout]:
    """Convert from the values of `to_plain`."""
    return [
        Rollout(
            kind=row["kind"],
            zeros=np.array(row["zeros"], dtype=np.int64),
            score=_score(row["score"]),
        )
        for row in rows
    ]


def _score(values: dict[str, Any]) -> Score:
    slopes = values.get("slopes")  # older files have none; JSON has lists for tuples
    return Score(**values | {"slopes": None if slopes is None else tuple(slopes)})
