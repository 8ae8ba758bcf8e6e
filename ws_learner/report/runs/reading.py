"""Read a run's row from the files of its folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ws_learner.core import AnyPath, UserError, altered_results, as_path, shown, unsealed
from ws_learner.report.runs.fields import number, read_object, table, text, whole
from ws_learner.report.runs.label import read_label
from ws_learner.report.runs.row import RunRow
from ws_learner.report.runs.run_state import unfinished_state

__all__ = ["is_run", "read_row"]

MARKS = ("summary.json", "identity.json", "progress.jsonl")
"""A folder with one of these is a run."""

_CHANGING = ("metrics.csv", "rollouts.csv", "progress.jsonl")
_REMEDY = "see docs/security.md"
_MOST_HASHED = 1 << 20  # bytes; a list reads tables, not weights


def is_run(folder: AnyPath) -> bool:
    """Whether a folder holds a run, in whatever state."""
    path = as_path(folder, name="folder")
    return any(_changed(path / name) is not None for name in MARKS)


def read_row(run: AnyPath) -> RunRow:
    """The row of one run.

    A folder without files of a run, and one with damaged files, has the state `unknown` and a
    reason; nothing is raised. A finished run whose results are missing or changed has a reason,
    too; of results above 1 MiB, such as weights, only that they are there is checked.

    Args:
        run: The run's folder.
    """
    path = as_path(run, name="run")
    row = _read(path)
    if row.state in ("stopped", "failed") and _changed(path / "summary.json") is not None:
        return _read(path)  # it has finished in between
    return row


def _read(path: Path) -> RunRow:
    begun, ended = _changed(path / "identity.json"), _changed(path / "summary.json")
    label = read_label(path)
    row: dict[str, Any] = {
        "id": shown(path.absolute().name, most=200),
        "path": path,
        "name": label.name,
        "tags": label.tags,
        "started": begun or ended or _changed(path) or 0.0,
    }
    try:
        row |= _facts(path, finished=ended is not None)
    except UserError as error:
        row |= {"state": "unknown", "reason": shown(str(error), most=200)}
    times = [ended] if ended is not None else [_changed(path / name) for name in _CHANGING]
    row["changed"] = max((one for one in times if one is not None), default=row["started"])
    return RunRow(**row)


def _facts(path: Path, *, finished: bool) -> dict[str, Any]:
    """What the files say; raises UserError if those that should be there are damaged."""
    if finished:
        summary = unsealed(read_object(path / "summary.json"), "summary.json", _REMEDY)
        problems = altered_results(summary, path, most_bytes=_MOST_HASHED)
        reason = shown("; ".join([*problems, _REMEDY]), most=200) if problems else ""
        extra = {"size_bytes": _size(path / "model.safetensors"), "reason": reason}
        return _of_summary(summary) | extra | {"state": "finished", "progress": 1.0}
    if not is_run(path):
        raise UserError("holds no run (no summary.json, identity.json or progress.jsonl)")
    facts: dict[str, Any] = {}
    if _changed(path / "identity.json") is not None:
        facts = _of_identity(read_object(path / "identity.json"))
    if facts.get("kind") == "sweep" and _changed(path / "sweep.csv") is not None:
        return facts | {"state": "finished", "progress": 1.0}
    return facts | unfinished_state(path)


def _of_summary(summary: Mapping[str, Any]) -> dict[str, Any]:
    unpruned = summary.get("learner") == "full-prec"
    dense, sparse = (_value(summary, network) for network in ("dense", "sparse"))
    known = dense is not None and sparse is not None
    higher = summary.get("higher_is_better", True)
    target = number(summary, "target_prune_ratio")
    return {
        "kind": "dense" if unpruned else "pruning",
        "experiment": text(summary, "experiment") or text(summary, "network"),
        "method": text(summary, "method"),
        "protocol": text(summary, "protocol"),
        "target": _budgets(summary) or ("" if target is None else f"{target:.6g}"),
        "pattern": text(summary, "pattern"),
        "metric": text(summary, "metric") or "accuracy",
        "unit": text(summary, "metric_unit") or "share",
        "higher_is_better": higher if isinstance(higher, bool) else True,
        "measured_on": text(summary, "measured_on") or "test",
        "examples": whole(table(summary, "split_sizes"), "test"),
        "dense": dense,
        "sparse": sparse,
        "change": sparse - dense if known and sparse is not None and dense is not None else None,
    }


def _value(summary: Mapping[str, Any], network: str) -> float | None:
    """A network's metric; older summaries have it as an accuracy only."""
    own = number(summary, f"{network}_metric")
    return number(summary, f"{network}_accuracy") if own is None else own


def _budgets(summary: Mapping[str, Any]) -> str:
    parts = summary.get("budget_parts")
    listed = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    return shown(",".join(text(part, "budget") for part in listed))


def _of_identity(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What the settings say of a run that is not finished."""
    if "plan" in identity:
        settings = table(identity, "settings")
        return {"kind": "sweep", "experiment": text(settings, "experiment")}
    settings = table(identity, "config") or identity  # the former is made from Python
    experiment = text(identity, "experiment") or text(table(identity, "model"), "class")
    if identity.get("learner") == "full-prec":
        return {"kind": "dense", "experiment": experiment}
    ratio = number(settings, "ws_prune_ratio")
    return {
        "experiment": experiment,
        "method": text(settings, "ws_method"),
        "protocol": text(settings, "ws_prune_ratio_prtl"),
        "target": text(settings, "ws_budget") or ("" if ratio is None else f"{ratio:.6g}"),
        "pattern": text(settings, "ws_pattern") or "unstructured",
    }


def _changed(path: Path) -> float | None:
    """When a file last changed, in Unix seconds; None if it is not there."""
    try:
        return os.stat(path).st_mtime
    except (OSError, ValueError):
        return None


def _size(path: Path) -> int | None:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return None
