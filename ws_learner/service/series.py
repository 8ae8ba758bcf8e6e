"""Curves and the best profile of a run so far, from its CSV files, which may be half written."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

__all__ = ["Layer", "Search", "Series", "read_search", "read_training", "thinned"]

_MOST_BYTES = 64 << 20
_ZEROS = "zeros/"
_TRAINING = {
    "train/loss": "training loss",
    "select/accuracy": "accuracy, select images",
    "select/metric": "metric, select images",
    "search/accuracy": "accuracy, search images",
    "train/accuracy": "accuracy, training images",
    "prune/ratio": "share of zeros",
}


@dataclass(frozen=True)
class Series:
    """A curve.

    Attributes:
        name: What it shows.
        points: (x, y), x rising.
    """

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Layer:
    """A layer of a profile.

    Attributes:
        name: Of the weights.
        zeros: Number of zeros, where only that is known.
        ratio: Share of zeros, in [0, 1], where it is known.
    """

    name: str
    zeros: float | None = None
    ratio: float | None = None


@dataclass(frozen=True)
class Search:
    """What a search has found so far.

    Attributes:
        rewards: Of each rollout that did not fail, by its number.
        best: The best reward up to each rollout.
        rollout: Number of the best rollout.
        kind: Who proposed it.
        reward: Its reward.
        accuracy: Its accuracy on the search images.
        layers: Its profile.
        failed: Number of rollouts that failed.
    """

    rewards: Series
    best: Series
    rollout: int
    kind: str
    reward: float
    accuracy: float | None
    layers: tuple[Layer, ...]
    failed: int


def read_search(run: Path) -> Search | None:
    """The search of a run; None if no rollout is known."""
    rewards: list[tuple[float, float]] = []
    failed, top = 0, dict[str, str]()
    for row in _rows(run / "rollouts.csv"):
        number, reward = _number(row.get("rollout")), _number(row.get("reward"))
        if row.get("failed") or number is None or reward is None:
            failed += bool(row.get("failed"))
        elif row.get("kind") != "select":  # the finalists, scored again on other images
            rewards.append((number, reward))
            best = _number(top.get("reward")) if top else None
            top = row if best is None or reward > best else top
    if not top:
        return None
    risen: list[tuple[float, float]] = []
    for number, reward in rewards:
        risen.append((number, max(reward, risen[-1][1] if risen else reward)))
    layers = [
        Layer(name=key.removeprefix(_ZEROS), zeros=_number(value))
        for key, value in top.items()
        if key.startswith(_ZEROS)
    ]
    return Search(
        rewards=Series("reward of a rollout", tuple(rewards)),
        best=Series("best so far", tuple(risen)),
        rollout=int(_number(top["rollout"]) or 0),
        kind=top.get("kind", ""),
        reward=_number(top["reward"]) or 0.0,
        accuracy=_number(top.get("accuracy")),
        layers=_with_ratios(run, layers),
        failed=failed,
    )


def _with_ratios(run: Path, layers: list[Layer]) -> tuple[Layer, ...]:
    """The trained network's ratios if they are there, else the counts of the best rollout."""
    chosen = [
        Layer(name=row["layer"], ratio=_number(row.get("achieved")))
        for row in _rows(run / "ratios.csv")
        if row.get("layer")
    ]
    known = [one for one in chosen if one.ratio is not None]
    return tuple(known or layers)


def read_training(run: Path) -> tuple[Series, ...]:
    """The curves of a run's training over its epochs; phases follow one another."""
    found: dict[str, list[tuple[float, float]]] = {}
    before, last, phase = 0.0, 0.0, None
    for row in _rows(run / "metrics.csv"):
        epoch = _number(row.get("epoch")) or 0.0
        if row.get("phase") != phase:
            before, phase = last, row.get("phase")
        last = before + epoch
        for column, name in _TRAINING.items():
            value = _number(row.get(column))
            if value is not None:
                found.setdefault(name, []).append((last, value))
    return tuple(Series(name, tuple(sorted(points))) for name, points in found.items())


def thinned(series: Series, most: int = 400) -> Series:
    """The same curve with at most about `most` points: of each piece, its least and greatest."""
    points = series.points
    if len(points) <= most:
        return series
    ends = [round(i * len(points) / (most // 2)) for i in range(most // 2 + 1)]
    kept: list[tuple[float, float]] = []
    for begin, end in pairwise(ends):
        piece = points[begin:end]
        if piece:
            extremes = {min(piece, key=lambda p: p[1]), max(piece, key=lambda p: p[1])}
            kept += sorted(extremes)
    return Series(series.name, tuple(kept))


def _rows(path: Path) -> Iterator[dict[str, str]]:
    """The whole lines of a CSV file; nothing where there is none, or no such file."""
    try:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    whole = text[: text.rfind("\n") + 1]
    try:
        for row in csv.DictReader(whole.splitlines()):
            yield {key: value or "" for key, value in row.items() if isinstance(key, str)}
    except csv.Error:
        return


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None
