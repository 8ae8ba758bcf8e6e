"""What the shrink reports of one set of channels."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RemovedChannels"]


@dataclass(frozen=True, kw_only=True)
class RemovedChannels:
    """What became of one set of channels that live and die together.

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
