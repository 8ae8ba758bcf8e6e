"""Tables of `movement_proof`, made from its result files."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from ws_learner.core import write_text

__all__ = ["write_tables"]

_GRID = (
    *("task", "method", "pattern", "kept %", "rate", "epochs", "ramp's end", "note"),
    *("validation %", "seconds"),
)
_TABLE = (
    "task",
    "pattern",
    "kept %",
    "epochs",
    "method",
    "seeds",
    "test %",
    "to dense",
    "parameters",
)


def write_tables(out: Path) -> str:
    """Write `OUT/grid.md` (every run, by validation) and `OUT/table.md` (means over seeds)."""
    runs = [json.loads(path.read_text()) for path in sorted((out / "runs").glob("*.json"))]
    if not runs:
        return "no finished run"
    runs.sort(key=lambda run: (run["cell"]["kept"], run["cell"]["task"], -run["validation"]))
    tables = {
        "grid.md": _markdown(_GRID, [_grid_row(run) for run in runs]),
        "table.md": _markdown(_TABLE, _means(runs)),
    }
    for name, text in tables.items():
        write_text(out / name, text)
    return "\n".join(tables.values())


def _markdown(head: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = [list(head), ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _grid_row(run: dict[str, Any]) -> list[str]:
    cell = run["cell"]
    ratio = run.get("sparsified_layers_prune_ratio", run["achieved_prune_ratio"])
    note = " ".join(part for part in (cell["note"], "fresh" if cell["fresh"] else "") if part)
    return [
        cell["task"],
        cell["variant"],
        cell["pattern"],
        f"{100 * (1 - ratio):.2f}",
        f"{cell['rate']:g}",
        f"{cell['epochs']:g}",
        f"{cell['end']:g}",
        note,
        f"{100 * run['validation']:.2f}",
        f"{run['train_seconds']:.0f}",
    ]


def _means(runs: list[dict[str, Any]]) -> list[list[str]]:
    """A row for all seeds of what is otherwise the same."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for run in runs:
        cell = run["cell"]
        place = (cell["task"], cell["pattern"], -cell["kept"])
        settings = (cell["epochs"], cell["rate"], cell["end"], cell["note"], cell["fresh"])
        key = (*place, *settings, cell["variant"])
        groups.setdefault(key, []).append(run)
    rows = []
    for key in sorted(groups):
        group = groups[key]
        if len(group) < 2:  # of the grid, which has one seed
            continue
        test = [100 * run["sparse_accuracy"] for run in group]
        gaps = [100 * (run["sparse_accuracy"] - run["dense_accuracy"]) for run in group]
        cell = group[0]["cell"]
        sizes = [run["cropped_parameters"] for run in group if "cropped_parameters" in run]
        rows.append(
            [
                cell["task"],
                cell["pattern"],
                f"{100 * cell['kept']:g}",
                f"{cell['epochs']:g}",
                cell["variant"],
                str(len(group)),
                f"{statistics.mean(test):.2f} ± {statistics.stdev(test):.2f}",
                f"{statistics.mean(gaps):+.2f}",
                f"{statistics.mean(sizes):,.0f}" if sizes else "",
            ]
        )
    return rows
