"""What grows over a long session: 1,000 small runs over one local Ray, searches of 2,000 rollouts.

    python -m benchmarks.long_ground ray          # 1,000 small searches in one driver, one Ray
    python -m benchmarks.long_ground search       # 2,000 rollouts with each of four protocols
    python -m benchmarks.long_ground report       # tables of what was recorded so far

`ray` starts Ray once, scores every candidate in Ray's workers, and every 25 runs notes memory,
processes, open files, files on disk, object store and seconds. A pool of workers serves
`--per_pool` runs, since the start of a worker takes seconds of processor time; `--per_pool 1` is
what separate calls of `prune` do. The four protocols take turns, each run with a seed of its own.
`search` notes every 50 rollouts what the proposer took per
round, and the sizes of what is saved; each protocol runs in a process of its own, `--at_once` side
by side. The network has six layers and random weights (`small_task.py`); a rollout takes 10 ms.

Both go on where an earlier call stopped. `ray` then has a new driver and a new Ray, so that the
table has a column `session`, and `report` fits slopes within the longest one, without its first
100 runs. Results: experiments/results/long_ground.
"""

from __future__ import annotations

import subprocess
import sys

import tyro

from benchmarks.long_options import Options

__all__ = ["main"]


def main(options: Options) -> None:
    """Measure a part, or print the tables."""
    options.out.mkdir(parents=True, exist_ok=True)
    if options.part == "ray":
        from benchmarks.long_ray import run_over_ray

        run_over_ray(options)
    elif options.part == "report":
        from benchmarks.long_report import print_report

        print_report(options.out)
    elif len(options.protocols) == 1:
        from benchmarks.long_search import run_search

        run_search(options.protocols[0], options)
    else:
        _each_alone(options)


def _each_alone(options: Options) -> None:
    """One process for each protocol, so that memory is its own."""
    shared = [f"--{name}={getattr(options, name)}" for name in ("rollouts", "minutes", "out")]
    shared.append(f"--work={options.work}")
    command = [sys.executable, "-m", "benchmarks.long_ground", "search", *shared]
    started = []
    for protocol in options.protocols:
        started.append(subprocess.Popen([*command, "--protocols", protocol]))
        if not options.at_once:
            started[-1].wait()
    failed = [process.args for process in started if process.wait()]
    if failed:
        sys.exit(f"{len(failed)} of {len(started)} searches failed, see above")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
