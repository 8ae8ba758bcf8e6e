"""How well one training ranks profiles as another does: the ceiling of every score.

    python -m benchmarks.ceiling [--jobs 2]
    python -m benchmarks.ceiling --quick

The 32 profiles of `benchmarks.reward_quality` (ResNet-20, 95 %, one epoch) are trained again with
another seed; their first trainings are read from its table. The Spearman correlation between the
two says what a score can reach at most. Profiles are taken from all over the ranking, so that a
stopped run says something; the same command resumes it. What the repeated trainings of the accuracy
tables say about the noise is shown, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from benchmarks.ceiling_report import write_ceiling_report
from benchmarks.made import noted
from benchmarks.short_training import TrainingJob, train_all
from ws_learner.core import say, write_text

__all__ = ["Options", "main", "spread_out", "training_jobs"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """The ceiling.

    Attributes:
        source: Table of profiles, each trained once.
        seeds: Seeds of the trainings that are compared; those of the source are not run again.
        profiles: How many profiles, from all over the ranking; 0: all.
        nb_epochs: Epochs of gradual pruning.
        quick: Four profiles, a few steps, both seeds: two minutes. The tables then go to
            runs/quick/ceiling.
        report: Run nothing; write the page from the rows that are there.
        jobs: Processes, one thread each.
        accuracy: Other tables of trainings, in which profiles with several seeds are counted.
        out: Folder of the table and the page.
    """

    source: Path = Path("experiments/results/reward_quality/trained.csv")
    seeds: tuple[int, ...] = (0, 1)
    profiles: int = 0
    nb_epochs: float = 1.0
    quick: bool = False
    report: bool = False
    jobs: int = 1
    accuracy: tuple[Path, ...] = (
        Path("experiments/results/agent_ablation/trained.csv"),
        Path("experiments/results/search_league/trained.csv"),
        Path("experiments/results/accuracy/rows.csv"),
        Path("experiments/results/families/rows.csv"),
    )
    out: Path = Path("experiments/results/ceiling")


def main(options: Options) -> None:
    """Train what is missing; write and print the page."""
    if options.quick:
        folder = Path("runs/quick/ceiling")
        options = replace(options, profiles=4, nb_epochs=0.03, out=folder)
    table = options.out / "trained.csv"
    source = pd.read_csv(options.source)
    if not options.report:
        _start_from(source, table, options)
        with noted(options.out / "made.csv", table):
            train_all(training_jobs(source, options), workers=options.jobs, table=table)
    print(write_ceiling_report(options.out, source=source, accuracy=options.accuracy))


def training_jobs(source: pd.DataFrame, options: Options) -> list[TrainingJob]:
    """The trainings, profile by profile, in an order that is spread over the ranking."""
    ordered = spread_out(source)
    chosen = ordered.head(options.profiles) if options.profiles else ordered
    return [
        TrainingJob(
            name=str(row["name"]),
            zeros=tuple(map(int, str(row["zeros"]).split())),
            target=float(row["target"]),
            seed=seed,
            nb_epochs=options.nb_epochs,
            split="select",
        )
        for row in chosen.to_dict("records")
        for seed in options.seeds
    ]


def spread_out(source: pd.DataFrame) -> pd.DataFrame:
    """Rows in an order whose every beginning is spread evenly over the accuracies."""
    ranked = source.sort_values("accuracy", ascending=False, kind="stable").reset_index(drop=True)
    bits = max(1, (len(ranked) - 1).bit_length())
    turned = [int(f"{place:0{bits}b}"[::-1], 2) for place in range(2**bits)]
    return ranked.iloc[[place for place in turned if place < len(ranked)]]


def _start_from(source: pd.DataFrame, table: Path, options: Options) -> None:
    """Put the trainings of the source that are of this length into a new table."""
    if table.exists():
        return
    alike = source[(source["nb_epochs"] == options.nb_epochs) & (source["split"] == "select")]
    if len(alike):
        table.parent.mkdir(parents=True, exist_ok=True)
        write_text(table, alike.to_csv(index=False))


if __name__ == "__main__":
    import tyro

    say("ceiling: about a minute for each training; to resume a stopped run, repeat the command")
    main(tyro.cli(Options, description=__doc__))
