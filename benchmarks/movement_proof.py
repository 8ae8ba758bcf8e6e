"""Movement against gradual magnitude pruning: MiniLM on two tasks, many runs at once.

    python -m benchmarks.movement_proof grid --jobs 12 --minutes 4
    python -m benchmarks.movement_proof table --movement VARIANT --jobs 12 --minutes 9
    python -m benchmarks.movement_proof show

`grid` tries settings, each with one seed; they are judged on the search and select splits, 700
questions and 1,300 film sentences. `table` keeps 50, 30, 10 and 3 % of the encoder's weights, three
seeds, and reads the test split. Each run is an ordinary one in a process of its own; its numbers
are in `OUT/runs/NAME.json` as soon as it ends, and a run with such a file is skipped.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import os
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.movement_cells import TASKS, VARIANTS, Cell, Start, grid, table_cells
from benchmarks.movement_table import write_tables
from benchmarks.side_by_side import side_by_side

__all__ = ["main", "run_all"]


def run_all(
    cells: Sequence[Cell], *, out: Path, scratch: Path, jobs: int, seconds: float, epochs: float
) -> int:
    """Run the cells that have no result yet, `jobs` at a time; returns how many failed.

    Args:
        cells: In the order in which they are begun.
        out: Folder of the results.
        scratch: Folder of the dense networks, and of each run while it lasts.
        jobs: Processes.
        seconds: None is begun later than this.
        epochs: Of the dense networks.
    """
    begun, failed = time.monotonic(), 0
    os.environ["WS_CHECKPOINT_SECONDS"] = "100000"  # runs are short, their files large
    todo = [cell for cell in cells if not _result(out, cell).exists()]
    dense = list(dict.fromkeys((cell.task, cell.seed) for cell in todo))
    first = partial(_dense, scratch=scratch, out=out, epochs=epochs)
    for item, told in side_by_side(first, dense, jobs=jobs):
        if isinstance(told, Exception):
            raise told
        print("dense", *item, told, flush=True)
    then = partial(_cell, scratch=scratch, out=out, latest=begun + seconds)
    for count, (cell, told) in enumerate(side_by_side(then, todo, jobs=jobs), 1):
        failed += isinstance(told, Exception)
        spent = time.monotonic() - begun
        print(f"{count}/{len(todo)} {spent:5.0f} s  {cell.name}: {told}", flush=True)
    return failed


def _result(out: Path, cell: Cell) -> Path:
    return out / "runs" / f"{cell.name}.json"


def _start(scratch: Path, task: str, seed: int) -> Start:
    folder = scratch / f"dense_{task}_{seed}"
    return Start(folder / "pretrained.safetensors", folder / "run" / "model.safetensors")


def _quietly(words: list[str], log: Path) -> int:
    from experiments.run import main as run

    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        return run(words, runs=log.parent)


def _dense(of: tuple[str, int], *, scratch: Path, out: Path, epochs: float) -> str:
    """Fine-tune a dense network; keep what it started from, too."""
    from experiments.cli.discovery import find_experiment
    from ws_learner.core import save_model, write_json

    task, seed = of
    start, (experiment, share) = _start(scratch, task, seed), TASKS[task]
    folder, kept = start.tuned.parent, out / "dense" / f"{task}_{seed}.json"
    if kept.exists() and start.tuned.exists():
        return "is there"
    if not start.pretrained.exists():
        module = find_experiment(experiment)
        network = module.build(module.Options(), seed=seed).model
        start.pretrained.parent.mkdir(parents=True, exist_ok=True)
        save_model(start.pretrained, network.state_dict(), {"format": "pt"})
    words = [experiment, "--learner", "full-prec", "--seed", str(seed)]
    words += ["--run_dir", str(folder), "--nb_epochs", f"{epochs * share:g}"]
    if code := _quietly(words, Path(f"{folder}.log")):
        raise RuntimeError(f"{task} {seed}: exit code {code}, see {folder}.log")
    shutil.rmtree(folder / "state", ignore_errors=True)
    accuracy = json.loads((folder / "summary.json").read_text())["dense_accuracy"]
    facts = {"task": task, "seed": seed, "dense_accuracy": accuracy, "epochs": epochs * share}
    facts |= _validation(experiment, seed, start.tuned)
    write_json(kept, facts)
    return f"{100 * accuracy:.2f} %"


def _cell(cell: Cell, *, scratch: Path, out: Path, latest: float) -> str:
    """Run one cell and keep its numbers; the run's folder goes."""
    from ws_learner.core import write_json, write_text

    if time.monotonic() > latest:
        return "left out, no time"
    folder = scratch / cell.name
    log = Path(f"{folder}.log")
    if cell.variant.startswith("soft"):
        write_text(Path(f"{folder}.json"), json.dumps(cell.soft_config()))
    if code := _quietly(cell.words(_start(scratch, cell.task, cell.seed), folder), log):
        lines = log.read_text().splitlines() or [""]
        raise RuntimeError(f"exit code {code}: {lines[-1]}")
    summary = json.loads((folder / "summary.json").read_text())
    facts = {"cell": cell.__dict__} | {name: summary[name] for name in _KEPT if name in summary}
    dense = json.loads((out / "dense" / f"{cell.task}_{cell.seed}.json").read_text())
    facts["dense_accuracy"] = dense["dense_accuracy"]  # not what training began with
    facts |= _validation(TASKS[cell.task][0], cell.seed, folder / "model.safetensors")
    facts["select_by_epoch"] = _curve(folder / "metrics.csv")
    write_json(_result(out, cell), facts)
    shutil.rmtree(folder)
    return f"{100 * facts['validation']:.2f} %"


_KEPT = (
    *("achieved_prune_ratio", "sparsified_layers_prune_ratio", "dense_accuracy"),
    *("sparse_accuracy", "train_seconds", "parameters", "cropped_parameters"),
    *("units", "units_removed", "hardware", "versions"),
)


def _validation(experiment: str, seed: int, weights: Path) -> dict[str, Any]:
    """Accuracy on the sentences that are neither trained on nor tested."""
    from experiments.cli.dense_weights import load_weights
    from experiments.cli.discovery import find_experiment
    from ws_learner.core import choose_device
    from ws_learner.training import evaluate

    module = find_experiment(experiment)
    built, here = module.build(module.Options(), seed=seed), choose_device()
    load_weights(built.model, weights)
    here.place_model(built.model)
    splits = (built.data.search, built.data.select)
    parts = [evaluate(built.model, split, built.metric, compute=here) for split in splits]
    sizes = [len(split) for split in splits]
    mean = sum(a * n for a, n in zip(parts, sizes, strict=True)) / sum(sizes)
    return {"validation": mean, "search": parts[0], "select": parts[1]}


def _curve(metrics: Path) -> list[float]:
    import pandas as pd

    rows = pd.read_csv(metrics)["select/accuracy"].dropna()
    return [round(float(value), 4) for value in rows]


def main(arguments: list[str] | None = None) -> int:
    """Run what is not finished and write the tables; returns 1 if a run failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("part", choices=("grid", "table", "show"))
    parser.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--minutes", type=float, default=1e6, help="begin no run later than this")
    parser.add_argument("--epochs", type=float, default=12, help="of TREC's (default 12)")
    parser.add_argument("--dense_epochs", type=float, default=4, help="the same, dense (default 4)")
    parser.add_argument("--movement", choices=VARIANTS, default="weights")
    parser.add_argument("--rate", type=float, default=5e-4, help="learning rate (default 5e-4)")
    parser.add_argument("--end", type=float, default=0.6, help="where ramps end (default 0.6)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--most", type=int, help="no more cells than these")
    parser.add_argument("--only", default="*", help="of those with such names, e.g. 'trec_*_0.1_*'")
    parser.add_argument("--out", type=Path, default=Path("experiments/results/movement/proof"))
    parser.add_argument("--scratch", type=Path, default=Path("runs/movement_proof"))
    options = parser.parse_args(arguments)
    common = {"epochs": options.epochs, "rate": options.rate, "end": options.end}
    cells = grid(**common)
    if options.part == "table":
        cells = table_cells(movement=options.movement, seeds=options.seeds, **common)
    cells = [cell for cell in cells if fnmatch.fnmatch(cell.name, options.only)]
    failed = 0
    if options.part != "show":
        failed = run_all(
            cells[: options.most],
            out=options.out,
            scratch=options.scratch,
            jobs=options.jobs,
            seconds=60 * options.minutes,
            epochs=options.dense_epochs,
        )
    print(write_tables(options.out))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
