"""The pool of processes that scores rollouts: on this machine, or on a Ray cluster."""

from __future__ import annotations

import os

from ws_learner.config import ClusterConfig
from ws_learner.search.rollout.pool_protocol import Evaluator, RolloutPool

__all__ = ["choose_pool"]


def choose_pool(
    evaluator: Evaluator, *, cluster: ClusterConfig | None, workers: int | None
) -> RolloutPool:
    """Build the pool; Ray and process pools are imported only where they are used.

    Args:
        evaluator: Scores a candidate.
        cluster: Settings of the cluster; None uses local processes.
        workers: Number of local processes; None is one per core.
    """
    if cluster is not None:
        from ws_learner.search.rollout.ray_pool import RayPool

        return RayPool(evaluator, cluster)
    from ws_learner.search.rollout.local_pool import LocalPool

    return LocalPool(evaluator, os.cpu_count() or 1 if workers is None else workers)
