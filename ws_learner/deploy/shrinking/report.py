"""Report of the shrink: removed channels of each set, and what stood in the way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ws_learner.core import say

__all__ = ["Obstacle", "RemovedChannels", "obstacle", "say_obstacles"]

_NAMED = 3
_REMEDIES = {
    "computed at each call": "make it permanent first, by torch.nn.utils.parametrize."
    "remove_parametrizations or the norm's own remove function",
    "outside of its layer": "call the layer itself, or keep the zeros there",
    "not known to treat every channel": "keep the zeros there, or do it after the next layer",
    "detached": "shrink before the network is scripted, traced or quantised, and with gradients",
    "does not run": "let the forward pass take widths from the tensors, or keep the zeros there",
    "grouped convolution": "keep the zeros there, or use groups=1",
    "several layers": "keep the zeros there, or give each layer its own weight",
}


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
        remedy: What to do.
    """

    layer: str
    reason: str
    remedy: str = "keep the zeros there"

    def __str__(self) -> str:
        """One line."""
        where = f"{self.layer}: " if self.layer else ""
        return f"{where}dead channels stay: {self.reason}; {self.remedy}"


def obstacle(layer: str, reason: str) -> Obstacle:
    """An obstacle with what can be done about it."""
    for part, remedy in _REMEDIES.items():
        if part in reason:
            return Obstacle(layer=layer, reason=reason, remedy=remedy)
    return Obstacle(layer=layer, reason=reason)


def say_obstacles(obstacles: Iterable[Obstacle]) -> None:
    """Print one line for each reason, with the layers that it concerns."""
    layers: dict[str, list[str]] = {}
    for found in obstacles:
        layers.setdefault(f"{found.reason}; {found.remedy}", []).append(found.layer)
    for reason, names in layers.items():
        named = [name for name in names if name]
        more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        where = f"{', '.join(named[:_NAMED])}{more}: " if named else ""
        say(f"shrink: {where}dead channels stay: {reason}")
