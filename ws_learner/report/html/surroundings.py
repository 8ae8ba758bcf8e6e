"""Recipe, splits, versions and hardware."""

from __future__ import annotations

from collections.abc import Mapping

from ws_learner.report.html.run_files import RunFiles, plain, text

__all__ = ["recipe_of", "splits_of", "versions_of"]

_MOST = 100
Rows = list[tuple[str, str]]


def recipe_of(files: RunFiles) -> Rows:
    """The settings of the training."""
    recipe = files.identity.get("recipe")
    return _rows(recipe) if isinstance(recipe, Mapping) else []


def versions_of(files: RunFiles) -> Rows:
    """Versions of libraries, and what the run used of the machine."""
    found = []
    for name in ("versions", "hardware"):
        part = files.summary.get(name)
        if isinstance(part, Mapping):
            found += _rows(part)
        elif part:
            found.append((name, text(part)))
    return found


def splits_of(files: RunFiles) -> list[tuple[str, str, str]]:
    """Split, what it was used for, and its number of examples."""
    sizes = files.summary.get("split_sizes")
    known = dict(sizes) if isinstance(sizes, Mapping) else {}
    metric, searched = files.metric, bool(files.summary.get("rollouts"))
    sparse = metric.value("sparse") is not None
    uses = {
        "train": "training" + (", calibration images, batch-norm statistics" if sparse else ""),
        "search": "the reward of each rollout; never trained on" if searched else "",
        "select": f"{text(metric.name, 60)} while training"
        + (", re-scoring of the finalists" if searched else "")
        + "; never trained on",
        "test": "the metric at the top; read once, at the end",
    }
    rows = []
    for name, use in uses.items():
        size = plain(known.get(name))
        shown = metric.measured_on if name == "test" else name
        if use:
            rows.append((text(shown, 20), use, "" if size is None else f"{size:,.0f}"))
    return rows


def _rows(part: Mapping[str, object]) -> Rows:
    return [(text(name, 80), text(value)) for name, value in part.items()][:_MOST]
