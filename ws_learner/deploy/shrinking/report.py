"""Report of the shrink: removed channels of each set, and what stood in the way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ws_learner.core import say

__all__ = ["Obstacle", "RemovedChannels", "say_obstacles"]

_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class RemovedChannels:
    """Removed channels of one set that can only be removed together.

    Attributes:
        layer: The layer that makes them, e.g. `layer1.0.conv1`.
        before: Channels at first.
        after: Channels left.
        note: Why dead channels had to stay, or empty.
    """

    layer: str
    before: int
    after: int
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """Why a part of the network stays as it is.

    Attributes:
        layer: The layer that makes the channels, or empty for the whole network.
        reason: The operation, and why it does not let channels go.
        remedy: What to do, or empty.
    """

    layer: str
    reason: str
    remedy: str = ""

    def __str__(self) -> str:
        """One line."""
        where = f"{self.layer}: " if self.layer else ""
        return f"{where}dead channels stay: {_reason(self)}"


def _reason(obstacle: Obstacle) -> str:
    return f"{obstacle.reason}; {obstacle.remedy}" if obstacle.remedy else obstacle.reason


def say_obstacles(obstacles: Iterable[Obstacle]) -> None:
    """Print one line for each reason, with the layers that it concerns."""
    layers: dict[str, list[str]] = {}
    for obstacle in obstacles:
        layers.setdefault(_reason(obstacle), []).append(obstacle.layer)
    for reason, names in layers.items():
        named = [name for name in names if name]
        more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        where = f"{', '.join(named[:_NAMED])}{more}: " if named else ""
        say(f"shrink: {where}dead channels stay: {reason}")
