"""`./run_distributed.sh`: the flags of `./run_local.sh`, on Ray.

Without RAY_ADDRESS a local Ray cluster is started for the run and shut down afterwards. With it,
the run is submitted to that cluster as a job, and its log is followed.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:  # started as a file: import from the root
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import os
from collections.abc import Sequence
from typing import NoReturn

from experiments.cli.command import Command
from experiments.cli.discovery import find_config
from experiments.cli.exit_codes import run_with_exit_code
from experiments.cli.flag_parser import underscored
from experiments.cli.flags import parse
from experiments.cli.verb_parser import plain_reason
from ws_learner.config import ClusterConfig
from ws_learner.core import UserError, say
from ws_learner.training import prepare

__all__ = ["main"]

SUBCOMMANDS = ("status", "logs", "stop", "fetch")


class _Parser(argparse.ArgumentParser):
    """Argument parser with the error format of the command line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(plain_reason(self, message))


def _parser() -> _Parser:
    parser = _Parser(
        prog="./run_distributed.sh",
        usage="%(prog)s -n=K [EXPERIMENT] [flags]\n"
        "       %(prog)s status | logs RUN | stop RUN | fetch RUN | serve   (with RAY_ADDRESS)\n"
        "RUN is a job of `status`, the beginning of its name, a run's --name, or last",
        description="Rollouts and training on Ray. All other flags are those of "
        "./run_local.sh, listed below.",
        allow_abbrev=False,
        add_help=False,
    )
    add = parser.add_argument
    add("-h", "--help", action="store_true", help="show this and the other flags")
    add("-n", type=int, metavar="K", help="workers, of one CPU each; by default one per core")
    add(
        "--gpus_per_worker",
        type=float,
        default=0.0,
        metavar="G",
        help="GPUs of each worker; 0.5 lets two rollout workers share one (default 0)",
    )
    add("--sweep", type=Path, metavar="FILE", help="try many settings with Ray Tune; see docs")
    add(
        "--storage",
        default="~/ws_learner_runs",
        metavar="DIR",
        help="where a cluster keeps run directories; on more than one machine it must be shared "
        "storage (default ~/ws_learner_runs)",
    )
    add("--dashboard", action="store_true", help="show Ray's dashboard (local Ray only)")
    add("--no_follow", action="store_true", help="send the job and return at once")
    add("--in_job", action="store_true", help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; return the exit code (1 after a failed job)."""
    words = list(sys.argv[1:] if argv is None else argv)
    return run_with_exit_code(lambda: _main(words), words=words)


def _main(words: Sequence[str]) -> int:
    if words and words[0] == "serve":
        from experiments.cli.serve.cluster_command import serve_cluster

        return serve_cluster(words[1:])
    if words and words[0] in SUBCOMMANDS:
        return _manage(words)
    own, rest = _parser().parse_known_args([underscored(word) for word in words])
    if own.help:
        _parser().print_help()
        parse([word for word in rest[:1] if not word.startswith("-")] + ["-h"])
    if own.n is not None and own.n < 1:
        raise UserError(f"-n={own.n}: must be at least 1")
    if os.environ.get("RAY_ADDRESS") and not own.in_job:
        return _send(own, words, rest)
    return _run(own, rest)


def _run(own: argparse.Namespace, rest: Sequence[str]) -> int:
    """Run in this process: on this machine only, or as the driver of a job."""
    prepare(local=not own.in_job, dashboard=own.dashboard)
    workers = own.n or len(os.sched_getaffinity(0))
    cluster = ClusterConfig(
        workers=workers,
        address="auto" if own.in_job else None,
        gpus_per_worker=own.gpus_per_worker,
        dashboard=own.dashboard,
    )
    runs = Path(own.storage).expanduser() if own.in_job else Path("runs")
    rest = _below(runs, rest) if own.in_job else rest
    if own.sweep is not None:
        from experiments.cli.ray.sweep import run_sweep

        return run_sweep(find_config(own.sweep), rest, cluster=cluster, runs=runs)
    from experiments import run

    return run.main(rest, cluster=cluster, runs=runs)


def _below(storage: Path, words: Sequence[str]) -> list[str]:
    """Move a relative --run_dir below the storage, since a job's folder is temporary."""
    placed: list[str] = []
    for word in words:
        if placed and placed[-1] == "--run_dir":
            word = str(storage / word)
        elif word.startswith("--run_dir="):
            word = f"--run_dir={storage / word.removeprefix('--run_dir=')}"
        placed.append(word)
    return placed


def _send(own: argparse.Namespace, words: Sequence[str], rest: Sequence[str]) -> int:
    from experiments.cli.ray.jobs import Jobs
    from experiments.cli.ray.working_dir import staged

    if own.n is None:
        raise UserError("-n=K: needed with RAY_ADDRESS; the number of workers on the cluster")
    command = parse(rest)  # bad input is found before anything is sent
    if own.sweep is not None:
        from experiments.cli.ray.sweep_checks import check_sweep

        check_sweep(find_config(own.sweep), rest)
    include = command.run.include
    with staged(words, experiment=command.name, include=include) as (folder, rewritten):
        jobs = Jobs(os.environ["RAY_ADDRESS"])
        run = jobs.submit(
            folder,
            rewritten,
            name=command.name,
            gpus=int(own.gpus_per_worker > 0),
            about={"ws_name": command.run.name or "", "ws_target": _target(own, command)},
        )
    say(f"sent as {run}: ./run_distributed.sh logs | stop | fetch {run}")
    return 0 if own.no_follow else jobs.follow(run)


def _target(own: argparse.Namespace, command: Command) -> str:
    """What the run is for, in a few characters."""
    if own.sweep is not None:
        return "sweep"
    if command.run.learner == "full-prec":
        return "dense"
    return command.ws.ws_budget or f"{command.ws.ws_prune_ratio:.6g}"


def _manage(words: Sequence[str]) -> int:
    """`status | logs RUN | stop RUN | fetch RUN`."""
    from experiments.cli.ray.jobs import Jobs

    what, names = words[0], list(words[1:])
    if what == "status" and names:
        raise UserError(f"status {names[0]}: status takes no name; try logs {names[0]}")
    if what != "status" and len(names) != 1:
        raise UserError(f"{what}: needs one RUN, as ./run_distributed.sh status lists them")
    if not os.environ.get("RAY_ADDRESS"):
        raise UserError(f"{what}: set RAY_ADDRESS to the cluster, such as http://head:8265")
    jobs = Jobs(os.environ["RAY_ADDRESS"])
    if what == "status":
        print(jobs.status(), end="")
        return 0
    run = jobs.find(names[0])
    if what == "logs":
        return jobs.follow(run)
    if what == "stop":
        jobs.stop(run)
    else:
        from experiments.cli.ray.fetch import fetch

        fetch(jobs, run, Path("runs"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
