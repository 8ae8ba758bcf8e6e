"""Accuracy after pruning of three other pretrained networks, by protocol: digits, VGG-like, MiniLM.

    python -m benchmarks.family_table [--networks digits vgg-like minilm] [--jobs 2]
    python -m benchmarks.family_table --quick

The digit recogniser on MNIST, a VGG-like network on CIFAR-10 and MiniLM on TREC-6 come with weights
that others trained (MiniLM's classifier is fine-tuned on the first use). Cells, files and resuming
are those of `benchmarks.accuracy_table`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.search_tasks import TaskName
from benchmarks.table_cells import Cell
from benchmarks.table_report import write_report
from benchmarks.table_runs import commit, run_cells
from ws_learner.config import WeightSparseConfig
from ws_learner.core import UserError, say, suggest

__all__ = ["LENGTHS", "Options", "cells", "main"]

LENGTHS: Mapping[TaskName, float] = {"digits": 1.0, "vgg-like": 1.0, "minilm": 3.0}
"""Networks, and the epochs of their sparse training."""

_PROTOCOLS = ("optimal", "divergence", "uniform")
_TARGETS, _SEEDS = (0.95, 0.9), 2
_QUICK = {"digits": 0.1, "vgg-like": 0.05, "minilm": 0.1}

_HEAD = """\
# Accuracy after pruning: three other networks

    python -m benchmarks.family_table [--networks digits vgg-like minilm] [--jobs 2]

| name | network, data | weights |
|---|---|---|
| digits | three convolutions, two dense layers; MNIST | of the Python package digit-recognizer-py |
| vgg-like | six convolutions, three dense layers; CIFAR-10 | of the Python package cifar-10-model |
| minilm | MiniLM, six layers, its encoder pruned; TREC-6 | all-MiniLM-L6-v2, fine-tuned here |

`optimal` searches with every seed, the others keep their profile. "Ahead by" is the mean over seeds
of the paired difference, with half its 95 % interval (Student's t). With two seeds an interval is
wide; it is shown so that no one reads more into a difference than is there.
"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The table of other networks.

    Attributes:
        networks: Of digits, vgg-like, minilm.
        seeds: Trainings of each protocol at each target.
        rollouts: Most rollouts of a search.
        quick: One target, two protocols, one seed, a few steps of each network. The table then
            goes to runs/quick/families.
        report: Run nothing; write the page from the rows that are there.
        jobs: Processes, one thread each.
        out: Folder of rows.csv and README.md.
        work: Folder of profiles and unfinished trainings.
    """

    networks: tuple[str, ...] = tuple(LENGTHS)
    seeds: int = _SEEDS
    rollouts: int = WeightSparseConfig.ws_nb_rlouts
    quick: bool = False
    report: bool = False
    jobs: int = 1
    out: Path = Path("experiments/results/families")
    work: Path = Path("runs/families")


def main(options: Options) -> None:
    """Fill the cells that are missing; write and print the table."""
    if options.quick:
        folder = Path("runs/quick/families")
        options = replace(options, seeds=1, rollouts=8, out=folder, work=folder / "work")
    wanted = cells(options)
    if not options.report:
        run_cells(wanted, table=options.out / "rows.csv", jobs=options.jobs)
    print(write_report(options.out, head=_HEAD, cells=wanted))


def cells(options: Options) -> list[Cell]:
    """The cells, network by network, seed by seed.

    Raises:
        UserError: There is no such network.
    """
    for name in options.networks:
        if name not in LENGTHS:
            raise UserError(f"`networks` {name}: {suggest(name, LENGTHS)}")
    code = commit()
    return [
        Cell(
            network=network,
            protocol=protocol,
            target=target,
            seed=seed,
            nb_epochs=_QUICK[network] if options.quick else epochs,
            rollouts=options.rollouts,
            commit=code,
            work=options.work,
        )
        for network, epochs in LENGTHS.items()
        if network in options.networks
        for seed in range(options.seeds)
        for target in (_TARGETS[1:] if options.quick else _TARGETS)
        for protocol in (("optimal", "uniform") if options.quick else _PROTOCOLS)
    ]


if __name__ == "__main__":
    import tyro

    say("other networks: one to two hours on one core; to resume a stopped run, repeat the command")
    try:
        main(tyro.cli(Options, description=__doc__))
    except UserError as error:
        say(f"error: {error}")
        sys.exit(2)
