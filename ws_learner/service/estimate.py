"""How long a new run may take, from earlier runs of the same experiment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ws_learner.core import UserError, read_json, read_yaml_file
from ws_learner.service.new_run import NewRun

__all__ = ["Estimate", "estimate"]

_MOST = 30


@dataclass(frozen=True)
class Estimate:
    """Time that a run may take.

    Attributes:
        seconds: Of search and training; None if nothing is known.
        runs: How many earlier runs say so.
    """

    seconds: float | None
    runs: int

    @property
    def text(self) -> str:
        """In words."""
        if self.seconds is None:
            return "unknown: no earlier run of this experiment has finished here"
        minutes = self.seconds / 60
        said = f"{self.seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min"
        if minutes >= 120:
            said = f"{minutes // 60:.0f} h {minutes % 60:.0f} min"
        plural = "" if self.runs == 1 else "s"
        return f"about {said}, from {self.runs} earlier run{plural} here"


def estimate(new: NewRun, earlier: Iterable[Path], *, searches: bool) -> Estimate:
    """Scale what earlier runs took by rollouts and epochs, and take the median.

    Args:
        new: What is asked for.
        earlier: Runs, newest first; those of other experiments do not count.
        searches: Whether the protocol searches.
    """
    found: list[float] = []
    for path in earlier:
        if (one := _seconds(new, path, searches)) is not None and len(found) < _MOST:
            found.append(one)
    return Estimate(seconds=median(found) if found else None, runs=len(found))


def _seconds(new: NewRun, run: Path, searches: bool) -> float | None:
    try:
        summary = read_json(run / "summary.json")
        path = run / "config.yaml"
        config = read_yaml_file(path, where=str(path), remedy="")
    except (UserError, OSError):
        return None
    if not isinstance(summary, dict) or not isinstance(config, dict):
        return None
    if _stem(str(config.get("experiment"))) != _stem(new.experiment):
        return None
    train = _number(summary, "train_seconds")
    search, rollouts = _number(summary, "search_seconds"), _number(summary, "rollouts")
    if train is None or (searches and not (search and rollouts)):
        return None
    epochs = _number(config, "nb_epochs")
    if new.epochs is not None and epochs:
        train *= new.epochs / epochs
    if not searches:
        return train
    if new.minutes is not None:
        return train + 60 * new.minutes
    assert search is not None
    assert rollouts is not None
    asked = new.rollouts or _number(config, "ws_nb_rlouts") or rollouts
    return train + search * asked / rollouts


def _number(values: dict[str, Any], name: str) -> float | None:
    value = values.get(name)
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e9 else None


def _stem(experiment: str) -> str:
    return Path(experiment).stem.removesuffix("_run")
