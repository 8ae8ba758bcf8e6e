"""`./run_distributed.sh serve`: the service in front of the jobs of RAY_ADDRESS."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from experiments.cli.ray.jobs import Jobs
from experiments.cli.serve.cluster import ClusterJobs, ClusterStarter
from experiments.cli.serve.command import refuse_without_extra, serve, serve_parser, split_words
from ws_learner.core import UserError

__all__ = ["serve_cluster"]

STORAGE = Path("~/ws_learner_runs")


def serve_cluster(words: Sequence[str]) -> int:
    """Serve the jobs of a cluster and the run directories in its storage until interrupted.

    Raises:
        UserError: A flag makes no sense, or the cluster does not answer.
    """
    refuse_without_extra()
    parser = serve_parser("./run_distributed.sh serve")
    parser.set_defaults(folder=STORAGE)
    parser.add_argument("-n", type=int, default=2, metavar="K", help="workers of a run (default 2)")
    parser.add_argument("--gpus_per_worker", type=float, default=0.0, metavar="G")
    own, extra = split_words(parser, words)
    if own.n < 1:
        raise UserError(f"-n={own.n}: must be at least 1")
    if not os.environ.get("RAY_ADDRESS"):
        raise UserError(
            "serve: set RAY_ADDRESS to the cluster, such as http://head:8265; for runs of this "
            "machine there is ws-learner serve"
        )
    own.folder = own.folder.expanduser()
    jobs = Jobs(os.environ["RAY_ADDRESS"])
    known = ClusterJobs(jobs)
    starter = ClusterStarter(
        own.folder,
        own.experiment,
        jobs=jobs,
        known=known,
        workers=own.n,
        gpus=own.gpus_per_worker,
        extra=extra,
        most=own.max_runs,
    )
    return serve(own, starter, elsewhere=known)
