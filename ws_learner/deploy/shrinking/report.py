"""Report of the shrink, one entry per set of channels."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RemovedChannels"]


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
