"""How a run uses Ray. Free of ray and torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ws_learner.core import UserError, check_settings

__all__ = ["ClusterConfig"]


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Workers and where they come from. None of it changes what a search finds.

    Attributes:
        workers: Rollout workers, of one CPU each; as many ranks train, if each has a whole GPU
            or none.
        address: A running cluster this process is part of (`auto`, or host:port of its head);
            None starts a local Ray cluster for the run and shuts it down afterwards.
        gpus_per_worker: GPUs of each worker; a share such as 0.5 lets two rollout workers use
            one GPU. 0 computes on the CPU.
        dashboard: Show Ray's dashboard; local Ray only.

    Raises:
        UserError: A number makes no sense.
    """

    workers: int
    address: str | None = None
    gpus_per_worker: float = 0.0
    dashboard: bool = False

    def __post_init__(self) -> None:
        check_settings(self)
        if self.workers < 1:
            raise UserError(f"`ClusterConfig.workers`={self.workers}: must be at least 1")
        gpus = self.gpus_per_worker
        if not (math.isfinite(gpus) and gpus >= 0 and (gpus <= 1 or gpus == int(gpus))):
            raise UserError(
                f"`gpus_per_worker` {gpus}: must be 0, a share below 1, or a whole number"
            )

    @property
    def ranks(self) -> int:
        """Processes that train together; no two of them may share a GPU."""
        if 0 < self.gpus_per_worker < 1:
            return max(1, math.floor(self.workers * self.gpus_per_worker))
        return self.workers
