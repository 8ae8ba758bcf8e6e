"""The result of a protocol, and its file."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from envs import IntArray, LayerRow
from ws_learner.core import (
    STATE_REMEDY,
    UserError,
    read_json,
    reading,
    sealed,
    unsealed,
    write_json,
)

__all__ = ["Allocation", "Decision", "load_decision", "save_decision"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Decision:
    """Zeros of each layer, and the search that found them.

    Attributes:
        zeros: (L,) zero counts.
        rollouts: Number of rollouts; 0 without a search.
        failed: Number of rollouts that could not be scored, on either split.
        stopped: Why the search ended (`Stop`); None without one, or if an earlier version ran it.
        chosen: Number of the chosen rollout, likewise.
        seconds: Wall time.
        facts: Further entries of the summary, such as who supplied the profile.
    """

    zeros: IntArray
    rollouts: int = 0
    failed: int = 0
    stopped: str | None = None
    chosen: int | None = None
    seconds: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)

    def same_choices(self, other: Decision) -> bool:
        """Whether each layer has the zeros, pattern and number format that it has there."""
        named = ("patterns", "dtypes")
        same = all(self.facts.get(name) == other.facts.get(name) for name in named)
        return same and bool((self.zeros == other.zeros).all())


@dataclass(frozen=True, kw_only=True, eq=False)
class Allocation(Decision):
    """Result of a protocol.

    Attributes:
        network: Builds the network of the rollout: pruned, regressed, fine-tuned.
    """

    network: Callable[[], nn.Module]

    @property
    def search_entries(self) -> dict[str, Any]:
        """Entries of `summary.json` on the search: the chosen rollout, and an early end."""
        entries: dict[str, Any] = {}
        if self.chosen is not None:
            entries["chosen_rollout"] = self.chosen
        if self.stopped not in (None, "rollouts"):
            entries["search_stopped"] = self.stopped
        return entries


_OWN = {item.name for item in fields(Decision)}


def save_decision(path: Path, decision: Decision) -> None:
    """Write a decision as JSON."""
    plain: dict[str, Any] = {"zeros": decision.zeros.tolist(), "rollouts": decision.rollouts}
    plain |= {"seconds": decision.seconds, "failed": decision.failed}
    if decision.rollouts:
        plain |= {"stopped": decision.stopped, "chosen": decision.chosen}
    write_json(path, sealed(plain | dict(decision.facts)))


def load_decision(path: Path, layers: Sequence[LayerRow]) -> Decision:
    """Read what `save_decision` or an earlier version wrote.

    Raises:
        UserError: It is damaged, or belongs to another layer table.
    """
    kept = unsealed(read_json(path), path, STATE_REMEDY)
    with reading(path, STATE_REMEDY):
        return _decision(kept, path, layers)


def _decision(kept: dict[str, Any], path: Path, layers: Sequence[LayerRow]) -> Decision:
    if len(kept["zeros"]) != len(layers):
        raise UserError(
            f"{path}: has zeros for {len(kept['zeros'])} layers, the layer table {len(layers)}: "
            "the run was made with another table; choose another run directory"
        )
    zeros = np.array([operator.index(count) for count in kept["zeros"]], dtype=np.int64)
    if any(not 0 <= count <= row.weights for count, row in zip(zeros, layers, strict=True)):
        raise ValueError("a layer has more zeros than weights, or fewer than none")
    return Decision(
        zeros=zeros,
        rollouts=operator.index(kept["rollouts"]),
        failed=kept.get("failed", 0),
        stopped=kept.get("stopped"),
        chosen=kept.get("chosen"),
        seconds=float(kept["seconds"]),
        facts={name: value for name, value in kept.items() if name not in _OWN},
    )
