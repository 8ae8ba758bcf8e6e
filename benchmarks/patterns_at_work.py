"""Accuracy cost of block and N:M pruning: finished runs against their dense networks.

    python -m benchmarks.patterns_at_work RUN_DIR ... [--dense FILE] [--out FILE.csv]

Opens every run's saved weights and those it started from, has both answer the test split, and
prints a row per run: accuracies, and the mean paired difference with its 95 % interval over the
test examples. The interval does not cover variation between seeds.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.paired_differences import interval
from ws_learner.core import RunDir, UserError, say

if TYPE_CHECKING:
    from torch import nn

    from experiments.experiment import Experiment
    from ws_learner.core import ComputeDevice

__all__ = ["compare", "main", "paired_difference"]


def paired_difference(
    sparse: np.typing.NDArray[np.float64], dense: np.typing.NDArray[np.float64]
) -> tuple[float, float]:
    """Mean of sparse - dense over (N,) examples and half the width of its 95 % interval."""
    difference = sparse - dense
    return float(difference.mean()), interval(difference)


def compare(
    path: Path, *, dense_file: Path | None = None, experiment_file: str | None = None
) -> dict[str, Any]:
    """A row of the table for the finished run in `path`.

    Args:
        path: Folder of the run.
        dense_file: Weights it started from; by default those that its settings lead to.
        experiment_file: The run's experiment file, if it is none of the project's.

    Raises:
        UserError: The run is not finished, or the weights it started from are gone.
    """
    from experiments.cli.dense_weights import load_weights
    from experiments.cli.flags import parse
    from experiments.run import build, dense_weights
    from ws_learner.core import choose_device

    run = RunDir(path)
    summary = run.read_summary()
    named = [] if experiment_file is None else [experiment_file]
    command = dataclasses.replace(parse([*named, "--config", str(run.config)]), runs=path.parent)
    experiment, chosen = build(command), choose_device(command.run.precision)
    weights = dense_file or dense_weights(command, experiment)
    if weights is None:
        raise UserError(f"{path}: started from fresh weights, so there is nothing to compare with")
    load_weights(experiment.model, weights)
    dense = _scores(experiment.model, experiment, chosen)
    load_weights(experiment.model, run.model)
    sparse = _scores(experiment.model, experiment, chosen)
    for name, mean in (("dense", dense.mean()), ("sparse", sparse.mean())):
        if abs(mean - summary[f"{name}_accuracy"]) > 5e-4:
            say(f"{path}: {name} accuracy is {mean:.4f}, not {summary[f'{name}_accuracy']:.4f}")
    mean, half = paired_difference(sparse, dense)
    return {
        "experiment": experiment.name,
        "pattern": summary["pattern"],
        "zeros": f"{summary['achieved_prune_ratio']:.4f}",
        "seed": summary["seed"],
        "test": len(dense),
        "dense %": f"{100 * dense.mean():.2f}",
        "sparse %": f"{100 * sparse.mean():.2f}",
        "difference, points": f"{100 * mean:+.2f} ± {100 * half:.2f}",
        "distilled": "yes" if summary["distilled"] else "no",
        "minutes": f"{summary['train_seconds'] / 60:.0f}",
        "command": shlex.join(shlex.split(summary["command"])),
    }


def _scores(
    model: nn.Module, experiment: Experiment, compute: ComputeDevice
) -> np.typing.NDArray[np.float64]:
    """(N,) metric of every test example."""
    import torch

    compute.place_model(model.eval())
    parts = []
    with torch.no_grad():
        for inputs, targets in experiment.data.test.batches(250):
            outputs = model(compute.place(inputs)).float()
            parts.append(experiment.metric(outputs, targets.to(outputs.device)).double().cpu())
    return torch.cat(parts).numpy()


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; return 0, or 2 after bad input."""
    import pandas as pd
    from tabulate import tabulate

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs")
    parser.add_argument("--dense", type=Path, help="weights that all of them started from")
    parser.add_argument("--out", type=Path, help="also write the rows to this CSV file")
    options = parser.parse_args(argv)
    try:
        rows = pd.DataFrame([compare(path, dense_file=options.dense) for path in options.runs])
        if options.out:
            from ws_learner.core import write_text

            write_text(options.out, rows.to_csv(index=False))
    except UserError as error:
        say(f"error: {error}")
        return 2
    table = rows.drop(columns="command").to_dict("list")
    text = tabulate(table, headers="keys", tablefmt="github", disable_numparse=True)
    sys.stdout.write(text + "\n")
    for command in rows["command"]:
        sys.stdout.write(f"    {command}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
