"""Comparison of N:M recipes on a small vision transformer: same steps, same images.

    python -m benchmarks.nm_recipes --epochs 20 --jobs 8 [--out DIR]
    python -m benchmarks.nm_recipes --epochs 20 --jobs 8 --timing

Trains a ViT of 2.4 million parameters on CIFAR-10 from fresh weights: dense, SR-STE, MdGf with a
linear and an exponential decay, SdGf by steps and geometric, each sparse one with 2:4, 1:4, 1:8
and 1:16 in its MLPs, three seeds. Every finished run appends a line to DIR/runs.jsonl and is
not run again. Tables and curves are drawn from the lines. `--timing` trains three
epochs of as many runs as go side by side and says how many epochs fit into `--minutes`.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.nm_runs import EXTRA, NETWORKS, RECIPES, Run, train
from benchmarks.side_by_side import side_by_side
from ws_learner.core import UserError, say, track

__all__ = ["main", "planned"]

OUT = Path(__file__).parents[1] / "experiments" / "results" / "nm_recipes"


def planned(options: argparse.Namespace) -> list[Run]:
    """The runs asked for: all of one seed before the next, so that seeds are whole.

    Raises:
        UserError: A recipe is unknown.
    """
    patterns = [f"{pattern}@{options.where}" for pattern in options.patterns.split()]
    unknown = set(options.recipes.split()) - {*RECIPES, *EXTRA}
    if unknown:
        known = ", ".join((*RECIPES, *EXTRA))
        raise UserError(f"--recipes {min(unknown)}: unknown; there are {known}")
    return [
        Run(
            network=options.network,
            recipe=recipe,
            pattern=pattern,
            seed=seed,
            epochs=options.epochs,
            batch=options.batch,
        )
        for seed in range(options.seeds)
        for recipe in options.recipes.split()
        for pattern in (["dense"] if recipe == "dense" else patterns)
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--network", default="vit", help=f"{', '.join(NETWORKS)}, or a file")
    parser.add_argument("--recipes", default=" ".join(RECIPES), help="names, separated by blanks")
    parser.add_argument("--patterns", default="2:4 1:4 1:8 1:16", help="of the sparse recipes")
    parser.add_argument("--where", default="ff", help="roles that are sparse (default ff)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each recipe (default 3)")
    parser.add_argument("--epochs", type=float, default=20, help="of each run (default 20)")
    parser.add_argument("--batch", type=int, default=256, help="images a step (default 256)")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side (default 1)")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of runs.jsonl and figures")
    parser.add_argument("--state", type=Path, help="folder of the checkpoints (default: temporary)")
    parser.add_argument("--timing", action="store_true", help="only say how long an epoch takes")
    parser.add_argument("--minutes", type=float, default=8, help="that `--timing` plans for")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Train what is missing, then write the tables and the figures; 1 if a run failed."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        state = options.state or Path(temporary)
        state.mkdir(parents=True, exist_ok=True)
        if options.timing:
            return _timing(planned(options), options, state=state)
        return _train_missing(planned(options), options, state=state)


def _train_missing(runs: Sequence[Run], options: argparse.Namespace, *, state: Path) -> int:
    from benchmarks.nm_report import add_run, read_runs, write_nm_report

    fields = [item.name for item in dataclasses.fields(Run)]
    known = [{name: row[name] for name in fields} for row in read_runs(options.out)]
    missing = [run for run in runs if dataclasses.asdict(run) not in known]
    failed = 0
    with track("runs", total=len(runs), done=len(runs) - len(missing)) as progress:
        work = partial(train, state=state)
        for run, row in side_by_side(work, missing, jobs=options.jobs):
            if isinstance(row, Exception):
                failed += 1
                say(f"{run.name}: {type(row).__name__}: {row}")
                continue
            add_run(options.out, row)
            progress.advance(note=f"{run.name}: {row['test']:.2%} in {row['seconds']:.0f} s")
    write_nm_report(options.out)
    return int(failed > 0)


def _timing(runs: Sequence[Run], options: argparse.Namespace, *, state: Path) -> int:
    """Three epochs of the sparse runs that come last, as many as go side by side."""
    short = [dataclasses.replace(run, epochs=3) for run in runs[-options.jobs :]]
    begun = time.monotonic()
    rows = [row for _, row in side_by_side(partial(train, state=state), short, jobs=options.jobs)]
    wall = time.monotonic() - begun
    for row in rows:
        if isinstance(row, Exception):
            raise row
    found = [row["epoch_seconds"] for row in rows if not isinstance(row, Exception)]
    epoch = statistics.median(seconds[1] for seconds in found)
    beside = max(wall - sum(statistics.median(column) for column in zip(*found, strict=True)), 0)
    turns = len(runs) / len(short)
    epochs = int((60 * options.minutes - beside) / turns / epoch)
    print(
        f"{len(short)} side by side: an epoch takes {epoch:.2f} s, start and end {beside:.1f} s, "
        f"steps {rows[0]['steps'] // 3} an epoch.\n"  # type: ignore[index]
        f"{len(runs)} runs of {options.epochs:g} epochs: "
        f"{(turns * options.epochs * epoch + beside) / 60:.1f} minutes.\n"
        f"Into {options.minutes:g} minutes go about {epochs} epochs."
    )
    return 0


if __name__ == "__main__":
    from experiments.cli.exit_codes import run_with_exit_code

    raise SystemExit(run_with_exit_code(main))
