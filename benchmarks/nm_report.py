"""Tables and figures of the N:M recipes, from the lines of their runs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ws_learner.core import write_text

__all__ = ["add_run", "mean_and_interval", "read_runs", "write_nm_report"]

Row = dict[str, Any]
CURVES = ("step", "gradient variance", "second-moment variance", "mask change", "loss")
_FILE = "runs.jsonl"


def read_runs(folder: Path) -> list[Row]:
    """The runs of a folder; a line that was cut short is left out."""
    path = folder / _FILE
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def add_run(folder: Path, row: Row) -> None:
    """Add a line to the folder's file, on disk when this returns."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _FILE
    if path.exists() and not path.read_bytes().endswith(b"\n"):  # cut short by a kill
        write_text(path, "".join(_line(known) for known in read_runs(folder)))
    with path.open("a") as file:
        file.write(_line(row))
        file.flush()
        os.fsync(file.fileno())


def _line(row: Row) -> str:
    return json.dumps(row, separators=(",", ":")) + "\n"


def mean_and_interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half of its 95 % interval by Student's t; nan for one value."""
    from scipy.stats import t

    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return mean, float("nan")
    spread = float(np.std(values, ddof=1)) / count**0.5
    return mean, float(t.ppf(0.975, count - 1)) * spread


def write_nm_report(folder: Path) -> None:
    """Write `table.md`, and `accuracy-*.svg` and `curves-*.svg` of each network."""
    runs = read_runs(folder)
    if not runs:
        return
    write_text(folder / "table.md", _table(runs))
    for network in _unique(runs, "network"):
        mine = [run for run in runs if run["network"] == network]
        _draw_curves(mine, folder / f"curves-{Path(network).stem}.svg")
        _draw_accuracy(mine, folder / f"accuracy-{Path(network).stem}.svg")


def _unique(runs: Iterable[Row], *names: str) -> list[Any]:
    """Values of a column, or of several, in the order in which they come first."""
    keys = ([run[name] for name in names] for run in runs)
    return list(dict.fromkeys(key[0] if len(names) == 1 else tuple(key) for key in keys))


def _patterns(runs: Iterable[Row]) -> list[str]:
    """Sparse patterns, the densest first."""

    def density(pattern: str) -> float:
        n, _, m = pattern.partition("@")[0].partition(":")
        return int(n) / int(m)

    found = [pattern for pattern in _unique(runs, "pattern") if pattern != "dense"]
    return sorted(found, key=density, reverse=True)


def _table(runs: Sequence[Row]) -> str:
    lines = [
        "| network | pattern | recipe | zeros | epochs | seeds | test accuracy | "
        "less dense, paired | less srste, paired |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    order = ["dense", *_patterns(runs)]
    kinds = _unique(runs, "network", "pattern", "recipe", "epochs", "batch")
    for kind in sorted(kinds, key=lambda kind: (kind[0], kind[3:], order.index(kind[1]))):
        network, pattern, recipe, epochs, batch = kind
        mine = _tests(runs, network, pattern, recipe, epochs, batch)
        zeros = next(run["zeros"] for run in runs if _kind(run) == kind)
        beside = [("dense", "dense"), (pattern, "srste")]
        differences = [
            ""
            if recipe in ("dense", other)
            else _paired(mine, _tests(runs, network, of, other, epochs, batch))
            for of, other in beside
        ]
        lines.append(
            f"| {Path(network).stem} | {pattern} | {recipe} | {zeros:,} | {epochs:g} | {len(mine)} "
            f"| {_points(list(mine.values()), sign='')} | {' | '.join(differences)} |"
        )
    return "\n".join(lines) + "\n"


def _kind(run: Row) -> tuple[Any, ...]:
    return tuple(run[name] for name in ("network", "pattern", "recipe", "epochs", "batch"))


def _tests(runs: Iterable[Row], *kind: Any) -> dict[int, float]:
    """Seed -> test accuracy of one kind of run."""
    return {run["seed"]: run["test"] for run in runs if _kind(run) == kind}


def _paired(mine: dict[int, float], other: dict[int, float]) -> str:
    pairs = [mine[seed] - other[seed] for seed in mine if seed in other]
    return _points(pairs) if pairs else ""


def _points(values: Sequence[float], *, sign: str = "+") -> str:
    mean, half = mean_and_interval([100 * value for value in values])
    return f"{mean:{sign}.2f}" + ("" if np.isnan(half) else f" ± {half:.2f}")


def _draw_curves(runs: Sequence[Row], path: Path) -> None:
    """A row for each pattern; each line is a recipe's mean over its seeds."""
    pyplot, patterns = _pyplot(), _patterns(runs)
    if not patterns:
        return
    size = {"figsize": (13, 3.2 * len(patterns)), "squeeze": False, "layout": "constrained"}
    figure, axes = pyplot.subplots(len(patterns), 3, **size)
    colours = {recipe: f"C{i}" for i, recipe in enumerate(_unique(runs, "recipe"))}
    for pattern, row in zip(patterns, axes, strict=True):
        for axis, column in zip(row, (1, 2, 3), strict=True):
            for recipe, colour in colours.items():
                mine = [
                    run["curves"]
                    for run in runs
                    if run["recipe"] == recipe and run["pattern"] in (pattern, "dense")
                ]
                _draw_line(axis, mine, column=column, label=recipe, colour=colour)
            axis.set_title(f"{pattern}: {CURVES[column]}", fontsize=10)
            axis.set_xlabel("step")
            axis.set_yscale("log" if column != 3 else "linear")
    axes[0][0].legend(fontsize=8)
    _save(figure, path)


def _draw_line(axis: Any, curves: Sequence[Any], *, column: int, label: str, colour: str) -> None:
    if not curves:
        return
    length = min(len(curve) for curve in curves)
    mean = np.mean([np.array(curve[:length]) for curve in curves], axis=0)
    begin = 1 if column == 3 else 0  # the first note has no masks to compare with
    if mean[begin:, column].any():
        axis.plot(mean[begin:, 0], mean[begin:, column], label=label, color=colour, linewidth=1)


def _draw_accuracy(runs: Sequence[Row], path: Path) -> None:
    """Test accuracy by pattern, mean and 95 % interval."""
    pyplot, patterns = _pyplot(), _patterns(runs)
    if not patterns:
        return
    figure, axis = pyplot.subplots(figsize=(7, 4), layout="constrained")
    tests: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        tests.setdefault(run["recipe"], {}).setdefault(run["pattern"], []).append(100 * run["test"])
    if "dense" in tests:
        axis.axhline(np.mean(tests["dense"]["dense"]), color="C0", linewidth=1, label="dense")
    for number, (recipe, found) in enumerate(tests.items()):
        if recipe != "dense":
            shift = (number - len(tests) / 2) * 0.08
            at = [patterns.index(pattern) + shift for pattern in found]
            mean, half = zip(*map(mean_and_interval, found.values()), strict=True)
            style = {"fmt": "o", "label": recipe, "markersize": 4, "color": f"C{number}"}
            axis.errorbar(at, mean, np.nan_to_num(half), **style)
    axis.set_xticks(range(len(patterns)), patterns)
    axis.set_ylabel("test accuracy, %")
    axis.legend(fontsize=8)
    _save(figure, path)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})
    _pyplot().close(figure)
