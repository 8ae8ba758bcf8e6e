"""The batch norm behind a convolution, as two numbers per output."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import nn

__all__ = ["Norm"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Norm:
    """A batch norm in evaluation mode.

    Attributes:
        module: Itself.
        parent: What holds it.
        attribute: Its name there.
    """

    module: nn.BatchNorm2d
    parent: nn.Module
    attribute: str

    def terms(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """(N,) factor and shift: it maps x to factor x + shift."""
        norm = self.module
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean, variance = norm.running_mean.double(), norm.running_var.double()
        factor = (variance + norm.eps).rsqrt()
        if norm.weight is not None:
            factor = factor * norm.weight.detach().double()
        shift = -mean * factor
        if norm.bias is not None:
            shift = shift + norm.bias.detach().double()
        return factor.float().numpy(), shift.float().numpy()
