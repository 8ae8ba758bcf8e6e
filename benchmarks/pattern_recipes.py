"""Training recipes for patterns: a small grid, then several seeds of the chosen recipe.

    python -m benchmarks.pattern_recipes --grid --jobs 16
    python -m benchmarks.pattern_recipes --recipe layers+soft --seeds 3 --jobs 12

Every training is a process and a JSON file in --out, made once. The grid changes the six
`FACTORS` of the training in eight runs (a 2^(6-3) design: all effects from the same runs) and
judges by the search and select examples, which nothing else reads here; the test split belongs to
the second form.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.paired_differences import interval
from benchmarks.pattern_training import (
    FACTORS,
    RATIOS,
    TrainingSpec,
    make_dense,
    make_sparse,
)
from benchmarks.side_by_side import run_missing
from ws_learner.core import UserError

__all__ = ["GRID", "effects", "main", "table"]

OUT = Path(__file__).parents[1] / "experiments" / "results" / "patterns_at_work" / "recipes"
EPOCHS = {"trec": 30.0, "polarity": 15.0, "resnet20": 10.0}
TASKS = {"trec": ("4x1", "2:4"), "polarity": ("4x1", "2:4"), "resnet20": ("2x1",)}


def _design() -> tuple[str, ...]:
    """Three factors in all combinations, the others are products of two of them."""
    recipes = []
    for number in range(8):
        a, b, c = (1 if number >> bit & 1 else -1 for bit in range(3))
        levels = (a, b, c, a * b, a * c, b * c)
        chosen = [name for name, level in zip(FACTORS, levels, strict=True) if level > 0]
        recipes.append("+".join(chosen) or "base")
    return tuple(recipes)


GRID = _design()


def table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """A row per task, pattern, recipe and length: means over seeds, differences in points."""
    found = []
    frame = pd.DataFrame(rows)
    for key, part in frame.groupby(["task", "pattern", "recipe", "epochs"], sort=False):
        held = np.array([100 * one["held"] for one in part["difference"]])
        test = np.array([100 * one["test"] for one in part["difference"]])
        found.append(
            dict(zip(("task", "pattern", "recipe", "epochs"), key, strict=True))
            | {
                "seeds": len(part),
                "zeros": f"{part['zeros'].mean():.4f}",
                "dense %": f"{np.mean([100 * one['test'][0] for one in part['dense']]):.2f}",
                "sparse %": f"{np.mean([100 * one['test'][0] for one in part['sparse']]):.2f}",
                "test": f"{test.mean():+.2f} ± {interval(test):.2f}",
                "held out": f"{held.mean():+.2f} ± {interval(held):.2f}",
                "log-loss": f"{np.mean([one['held'][1] for one in part['sparse']]):.4f}",
                "seconds": f"{part['seconds'].mean():.0f}",
            }
        )
    return pd.DataFrame(found)


def effects(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """What each factor changes on held-out examples: points of accuracy, and log-loss.

    Args:
        rows: Results; those of a task and length that has all of `GRID` count.
    """
    found = []
    frame = pd.DataFrame(rows)
    for key, part in frame.groupby(["task", "pattern", "epochs"], sort=False):
        part = part[part["recipe"].isin(GRID)]
        if set(part["recipe"]) != set(GRID):
            continue
        points = np.array([100 * one["held"] for one in part["difference"]])
        losses = np.array([one["held"][1] for one in part["sparse"]])
        for factor in FACTORS:
            has = np.array([factor in recipe.split("+") for recipe in part["recipe"]])
            gain, loss = (float(v[has].mean() - v[~has].mean()) for v in (points, losses))
            which = dict(zip(("task", "pattern", "epochs"), key, strict=True))
            found.append(which | {"factor": factor, "points": gain, "log-loss": loss})
    return pd.DataFrame(found)


def _trials(options: argparse.Namespace) -> list[TrainingSpec]:
    recipes = GRID if options.grid else (options.recipe,)
    unknown = set(options.recipe.split("+")) - set(FACTORS) - {"base"}
    if unknown:
        raise UserError(f"--recipe {options.recipe}: known are base, {', '.join(FACTORS)}")
    trials = []
    for seed in range(options.seeds):
        for task in options.tasks:
            length = (options.epochs or EPOCHS[task]) * options.length
            for pattern in TASKS[task]:
                if options.patterns and pattern not in options.patterns:
                    continue
                # Half of the weights is easily done without: half of the time.
                epochs = length / 2 if pattern == "2:4" else length
                for recipe in recipes:
                    one = {"task": task, "pattern": pattern, "recipe": recipe, "seed": seed}
                    trials.append(TrainingSpec(**one, epochs=epochs))
    return trials


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is missing, print the tables; return 0, or 2 after bad input."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--grid", action="store_true", help="the eight recipes of the design")
    parser.add_argument("--recipe", default="base", help=f"some of {'+'.join(FACTORS)}, or base")
    parser.add_argument("--tasks", nargs="+", default=["trec", "polarity"], choices=list(TASKS))
    parser.add_argument("--patterns", nargs="+", choices=list(RATIOS), help="default: all")
    parser.add_argument("--seeds", type=int, default=1, help="of each (default 1)")
    parser.add_argument("--epochs", type=float, help="of a 4x1 training, instead of the task's")
    parser.add_argument("--length", type=float, default=1.0, help="factor on the epochs")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once (default 1)")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the results")
    parser.add_argument("--state", type=Path, help="folder of dense weights (default: temporary)")
    options = parser.parse_args(arguments)
    try:
        trials = _trials(options)
        with tempfile.TemporaryDirectory() as temporary:
            _train(trials, options, state=options.state or Path(temporary))
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    rows = [json.loads(file.read_text()) for file in sorted(options.out.glob("*.json"))]
    for frame in (table(rows), effects(rows)):
        if len(frame):
            sys.stdout.write(frame.to_markdown(index=False, floatfmt=".4g") + "\n\n")
    return 0


def _train(trials: Sequence[TrainingSpec], options: argparse.Namespace, *, state: Path) -> None:
    """First the dense networks that missing results need, then the sparse ones."""
    missing = [one for one in trials if not (options.out / f"{one.name}.json").exists()]
    dense = {
        f"{one.task}-{one.seed}": (one.task, one.seed, state, options.precision)
        for one in missing
        if one.task != "resnet20"
    }
    state.mkdir(parents=True, exist_ok=True)
    run_missing(make_dense, dense, out=state, jobs=options.jobs, title="dense networks")
    sparse = {one.name: (one, state, options.precision) for one in trials}
    run_missing(make_sparse, sparse, out=options.out, jobs=options.jobs, title="sparse networks")


if __name__ == "__main__":
    raise SystemExit(main())
