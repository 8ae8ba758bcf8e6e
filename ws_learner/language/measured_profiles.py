"""Measures of profiles in a file, so that no profile is measured twice."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from envs import IntArray
from ws_learner.core import STATE_REMEDY, reading, write_text

__all__ = ["Measured", "MeasuredProfiles"]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A network's predictions on windows; all in nats or probabilities per token.

    Attributes:
        loss: Mean negative log likelihood.
        divergence: Mean KL divergence from the dense network.
        variation: Mean total variation distance from the dense network, in [0, 1].
    """

    loss: float
    divergence: float
    variation: float


class MeasuredProfiles:
    """All measures of profiles of one database on the same windows, in a CSV file.

    Searches by different protocols and rewards share it, and a stopped one has lost one rollout at
    most.
    """

    def __init__(self, path: Path) -> None:
        """Read what an earlier call has measured.

        Args:
            path: The file; it need not exist.

        Raises:
            UserError: It is damaged.
        """
        self._path = path
        self._known: dict[str, Measured] = {}
        if path.exists():
            with reading(path, STATE_REMEDY):
                for row in csv.DictReader(path.read_text().splitlines()):
                    levels = row.pop("levels")
                    numbers = {name: float(value) for name, value in row.items()}
                    self._known[levels] = Measured(**numbers)

    def __len__(self) -> int:
        return len(self._known)

    def of(self, levels: IntArray, measure: Callable[[IntArray], Measured]) -> Measured:
        """The measures of a profile, measured now if they are not known.

        Args:
            levels: (B,) number of each block's ratio.
            measure: Measures it.

        Raises:
            UserError: The disk is full.
        """
        name = " ".join(map(str, levels.tolist()))
        if name not in self._known:
            self._known[name] = measure(levels)
            self._write()
        return self._known[name]

    def _write(self) -> None:
        lines = ["levels,loss,divergence,variation"]
        for levels, found in self._known.items():
            lines.append(",".join([levels, *map(repr, asdict(found).values())]))
        write_text(self._path, "\n".join(lines) + "\n")
