"""What others wrote into pruned weights between two optimizer steps."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ws_learner.core import warn

__all__ = ["ForeignWrites"]


class ForeignWrites:
    """Finds and counts the pruned weights that others wrote; says so once for each parameter.

    Values are compared, since a write through `.data` changes no version counter. On a GPU counts
    stay there until `tell`: reading them would mean to wait for it.
    """

    def __init__(self) -> None:
        self._counts: dict[str, Tensor] = {}
        self._told: set[str] = set()

    def find(
        self, name: str, weight: Tensor, mask: Tensor, expected: Tensor | None = None
    ) -> Tensor | None:
        """Which pruned weights were written to; None if it is known that none was.

        Args:
            name: Of the parameter.
            weight: Its values now.
            mask: Bool, True = kept.
            expected: What was left in pruned weights besides zeros; by default nothing.
        """
        values = weight.detach()
        if values.device.type != "cpu" or values.dtype not in (torch.float32, torch.float64):
            written = values.bool()
            if expected is not None:
                written.logical_and_(values != expected)
            written = written.gt(mask)
        else:  # a fifth of the time
            found = values.numpy() != 0
            if expected is not None:
                found &= values.numpy() != expected.numpy()
            written = torch.from_numpy(np.greater(found, mask.numpy()))
        if written.device.type == "cpu" and not written.numpy().any():
            return None
        count = torch.count_nonzero(written)
        self._counts[name] = self._counts[name] + count if name in self._counts else count
        return written

    def tell(self, *, wait: bool = True) -> None:
        """Print one line of the parameters that were written to and have not been named yet.

        Args:
            wait: Count on GPUs too, which is waited for; else they are left for later.
        """
        counts = {n: c for n, c in self._counts.items() if wait or c.device.type == "cpu"}
        self._counts = {name: c for name, c in self._counts.items() if name not in counts}
        new = {n: int(c) for n, c in counts.items() if n not in self._told and int(c)}
        self._told |= set(new)
        if new:
            first = ", ".join(f"{name} ({count})" for name, count in list(new.items())[:3])
            more = f" and {len(new) - 3} more parameters" if len(new) > 3 else ""
            warn(
                "warning: pruned weights were given values other than 0 between optimizer steps: "
                f"{first}{more}. They are zero again, and have these values if they come back. "
                "Loaded weights, an average copied in, another optimizer?"
            )
