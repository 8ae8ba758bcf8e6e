"""What can be decided for one layer, and what a decision costs. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from ws_learner.core.errors import UserError
from ws_learner.core.setting_checks import check_choice

__all__ = ["LayerChoice", "LayerCosts", "NumberFormat"]

NumberFormat = Literal["fp32", "int8"]
"""Number format in which a layer's weights are stored and multiplied."""


@dataclass(frozen=True, kw_only=True)
class LayerChoice:
    """One way to make a layer smaller.

    Attributes:
        pattern: Canonical spelling of the pattern of its zeros, such as `unstructured` or `4x1`.
        zeros: Number of zero weights, a count that the pattern can make; 0 is the dense layer.
        dtype: Number format.

    Raises:
        UserError: `zeros` is below 0, or `dtype` is no number format.
    """

    pattern: str
    zeros: int
    dtype: NumberFormat = "fp32"

    def __post_init__(self) -> None:
        check_choice(self.dtype, NumberFormat, name="dtype")
        if self.zeros < 0:
            raise UserError(f"`zeros` {self.zeros}: must be 0 or more")

    def density(self, weights: int, *, layer: str) -> float:
        """Share of a layer's weights that is not zero, in [0, 1].

        Args:
            weights: Number of the layer's weights.
            layer: Its name, for the message.

        Raises:
            UserError: There are more zeros than weights.
        """
        if self.zeros > weights:
            raise UserError(f"`zeros` {self.zeros}: {layer} has {weights} weights")
        return 1 - self.zeros / weights


class LayerCosts(Protocol):
    """Costs of the layers of one network in one unit, such as milliseconds of one engine."""

    @property
    def unit(self) -> str:
        """`params`, `macs`, `bytes` or `latency@ENGINE`."""

    @property
    def digest(self) -> str:
        """SHA-256 of everything that the costs depend on; part of a run's identity."""

    @property
    def overhead(self) -> float:
        """Cost of what no layer has: the network with all layers free of cost."""

    def cost(self, layer: int, choice: LayerChoice) -> float:
        """Cost of a layer of the table, in forward order; latency in milliseconds."""
