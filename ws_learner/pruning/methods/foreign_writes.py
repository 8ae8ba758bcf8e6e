"""What others wrote into pruned weights between two optimizer steps."""

from __future__ import annotations

import torch
from torch import Tensor

from ws_learner.core import say

__all__ = ["ForeignWrites"]


class ForeignWrites:
    """Counts the pruned weights that others wrote, and says so once for each parameter.

    On a GPU the counts stay there until `tell`: reading them would mean to wait for it.
    """

    def __init__(self) -> None:
        self._counts: dict[str, Tensor] = {}
        self._told: set[str] = set()

    def add(self, name: str, written: Tensor) -> bool:
        """Count a bool mask; False if it is known to be all False."""
        if written.device.type == "cpu" and not bool(written.any()):
            return False
        count = torch.count_nonzero(written)
        self._counts[name] = self._counts[name] + count if name in self._counts else count
        if written.device.type == "cpu":
            self.tell()
        return True

    def tell(self) -> None:
        """Print a line for each parameter that was written to and has not been named yet."""
        for name, count in self._counts.items():
            if name not in self._told and int(count):
                self._told.add(name)
                say(
                    f"warning: {name}: {int(count)} pruned weights were given values other than 0 "
                    "between optimizer steps (loaded weights, an average copied in, another "
                    "optimizer?); they are zero again after the step, and would come back with "
                    "these values if the method brings them back"
                )
        self._counts = {}
