"""Accuracy of ResNet-20 on CIFAR-10 after pruning, by protocol: targets, seeds, intervals.

    python -m benchmarks.accuracy_table [--jobs 2] [--more] [--nb_epochs 6]
    python -m benchmarks.accuracy_table --quick

Every cell starts from the dense network of 92.37 % that `./run_local.sh` starts from, and gets the
same training: the product's recipe with `--nb_epochs`. At the product's own length, 6, the 45 core
cells take about four hours of one core. A protocol without rollouts keeps its profile, so its seeds
are training seeds; a search is repeated with every seed. `--more` adds targets, protocols and
seeds. Writes rows.csv after every cell, and README.md. The same command resumes a stopped run and
leaves out cells that the table holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.accuracy_report import write_accuracy_report
from benchmarks.search_tasks import TaskName
from benchmarks.table_cells import Cell
from benchmarks.table_runs import commit, run_cells
from ws_learner.config import WeightSparseConfig
from ws_learner.core import say

__all__ = ["Options", "cells", "main"]

NETWORK: TaskName = "resnet20-new"
CORE = ("optimal", "divergence", "knapsack", "heurist", "uniform")
MORE = (*CORE, "global", "lamp", "erk", "progression", "bayesian")
_CORE_TARGETS, _MORE_TARGETS = (0.9, 0.95, 0.75), (0.98, 0.5)
_CORE_SEEDS, _MORE_SEEDS, _MANY_AT = 3, 5, (0.95, 0.98)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The accuracy table.

    Attributes:
        nb_epochs: Epochs of the sparse training; one epoch takes about a minute on one core.
        rollouts: Most rollouts of a search.
        more: Also 50 and 98 %, five more protocols, and five seeds at 95 and 98 %.
        quick: One target, two protocols, one seed, a few steps: two minutes. The table then goes
            to runs/quick/accuracy.
        report: Run nothing; write the page from the rows that are there.
        jobs: Processes, one thread each.
        out: Folder of rows.csv and README.md.
        work: Folder of profiles and unfinished trainings.
    """

    nb_epochs: float = 1.0
    rollouts: int = WeightSparseConfig.ws_nb_rlouts
    more: bool = False
    quick: bool = False
    report: bool = False
    jobs: int = 1
    out: Path = Path("experiments/results/accuracy")
    work: Path = Path("runs/accuracy")


def main(options: Options) -> None:
    """Fill the cells that are missing; write and print the table."""
    if options.quick:
        folder = Path("runs/quick/accuracy")
        options = replace(options, nb_epochs=0.05, rollouts=8, out=folder, work=folder / "work")
    wanted = cells(options)
    if not options.report:
        run_cells(wanted, table=options.out / "rows.csv", jobs=options.jobs)
    print(write_accuracy_report(options.out, cells=wanted))


def cells(options: Options) -> list[Cell]:
    """The cells, in an order that makes a stopped run useful: seed by seed, 90 and 95 % first."""
    code = commit()
    return [
        Cell(
            network=NETWORK,
            protocol=protocol,
            target=target,
            seed=seed,
            nb_epochs=options.nb_epochs,
            rollouts=options.rollouts,
            commit=code,
            work=options.work,
        )
        for protocol, target, seed in _places(options)
    ]


def _places(options: Options) -> Iterator[tuple[str, float, int]]:
    if options.quick:
        yield from ((protocol, 0.9, 0) for protocol in ("optimal", "uniform"))
        return
    for seed in range(_CORE_SEEDS):
        for target in _CORE_TARGETS:
            yield from ((protocol, target, seed) for protocol in CORE)
    if not options.more:
        return
    for seed in range(_MORE_SEEDS):
        for target in (*_CORE_TARGETS, *_MORE_TARGETS):
            if seed < _CORE_SEEDS or target in _MANY_AT:
                known = CORE if seed < _CORE_SEEDS and target in _CORE_TARGETS else ()
                yield from ((name, target, seed) for name in MORE if name not in known)


if __name__ == "__main__":
    import tyro

    say("accuracy table: about 70 minutes on one core; to resume a stopped run, repeat the command")
    main(tyro.cli(Options, description=__doc__))
