"""Figure of a search: the reward of each rollout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ws_learner.report.figure_style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    YELLOW,
    canvas,
    plain_label,
    quiet,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_search", "search_figure"]

_KINDS = {
    "prior": ("D", ORANGE),
    "warm-up": ("o", GREY),
    "random": ("o", GREY),
    "mutation": ("^", BLUE),
    "model": ("^", BLUE),
    "critic": ("s", YELLOW),
    "agent": ("o", BLUE),
    "final": ("s", GREEN),
}
_RESCORED = "select"


def search_figure(rollouts: pd.DataFrame, path: Path, *, chosen: int | None = None) -> None:
    """Draw the reward of each rollout, the best so far and the one that was chosen.

    Failed rollouts, and those far below the rest, are drawn on the lower edge. Rows of kind
    `select` were measured on other images; they determine the choice but are not drawn.

    Args:
        rollouts: The rows of `rollouts.csv`.
        path: The `.svg` or `.png` to write.
        chosen: Number of the chosen rollout. By default, for runs that do not say, the one with
            the best reward on re-scoring or, without re-scoring, the highest reward.
    """
    with canvas(path, width=7.0, height=3.4) as figure:
        draw_search(figure, rollouts, chosen=chosen)


def draw_search(
    figure: Figure, rollouts: pd.DataFrame, *, chosen: int | None = None, columns: int = 8
) -> None:
    """Draw `search_figure` on a figure, with so many columns in its legend."""
    failed = rollouts["reward"].isna() | rollouts["failed"].fillna("").ne("")
    again = rollouts["kind"].eq(_RESCORED)
    shown = rollouts[~again & ~failed]
    if chosen is None:
        chosen = _chosen(shown, rollouts[again & ~failed])
    axes = figure.subplots()
    _dots(axes, shown)
    low = _cut(axes, shown)
    _on_edge(axes, shown.loc[low, "rollout"], "v", GREY, "far lower")
    _on_edge(axes, rollouts.loc[~again & failed, "rollout"], "x", INK, "failed")
    mark = shown[shown["rollout"] == chosen]
    ring = {"ms": 11, "mfc": "none", "mec": INK, "mew": 1.4, "ls": "none", "clip_on": False}
    axes.plot(mark["rollout"], mark["reward"], "o", label="chosen", **ring)  # type: ignore[arg-type]
    axes.set_xlabel("rollout")
    axes.set_ylabel("reward")
    quiet(axes, grid="y")
    axes.margins(x=0.02)
    options = {"ncols": columns, "fontsize": 8, "handletextpad": 0.3, "columnspacing": 1.5}
    figure.legend(loc="outside upper left", **options)


def _chosen(shown: pd.DataFrame, again: pd.DataFrame) -> int | None:
    """Number of the first rollout with the best profile; None if all failed."""
    ranked = again if len(again) else shown
    if ranked.empty or shown.empty:
        return None
    best = ranked.sort_values("reward", ascending=False, kind="stable").iloc[0]
    profile = [name for name in shown.columns if str(name).startswith("zeros/")]
    same = shown[(shown[profile] == best[profile]).all(axis=1)] if profile else ranked[:0]
    return int(best["rollout"] if same.empty else same["rollout"].iloc[0])


def _dots(axes: Axes, shown: pd.DataFrame) -> None:
    best = shown["reward"].cummax()
    axes.step(shown["rollout"], best, where="post", color=INK, lw=1.0, label="best so far")
    for kind, group in shown.groupby("kind", sort=False):
        marker, colour = _KINDS.get(str(kind), ("^", GREEN))
        style = {"ls": "none", "color": colour, "ms": 4, "mew": 0, "alpha": 0.85}
        axes.plot(group["rollout"], group["reward"], marker, label=plain_label(kind), **style)  # type: ignore[arg-type]


def _cut(axes: Axes, shown: pd.DataFrame) -> pd.Series[bool]:
    """Limit the axis to keep the better half legible; return which rewards lie below it."""
    rewards = shown["reward"]
    if rewards.empty:
        return rewards.astype(bool)
    best, middle = float(rewards.max()), float(rewards.median())
    priors = rewards[shown["kind"].eq("prior")]
    floor = min([best - 6 * (best - middle), *priors.tolist()])
    below: pd.Series[bool] = rewards < floor
    if below.any():
        axes.set_ylim(floor - 0.05 * (best - floor), best + 0.05 * (best - floor))
    return below


def _on_edge(axes: Axes, numbers: pd.Series[int], marker: str, colour: str, label: str) -> None:
    if len(numbers):
        style = {"ls": "none", "color": colour, "ms": 4.5, "transform": axes.get_xaxis_transform()}
        axes.plot(numbers, [0.025] * len(numbers), marker, label=label, **style)  # type: ignore[arg-type]
