"""What `report.md` says of a search's critic and of its profiles for other targets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ws_learner.report.csv_io import read_frontier
from ws_learner.report.markdown_table import markdown_table, plain_markdown
from ws_learner.report.metric_text import metric_of

__all__ = ["critic_sentence", "frontier_section"]

_COLUMNS = ("target", "supplier", "predicted_reward", "reward", "accuracy")


def critic_sentence(summary: Mapping[str, Any]) -> str:
    """A paragraph on how well the critic predicted rollouts before they were scored."""
    critic = summary.get("critic")
    if not critic:
        return ""
    related = critic.get("correlation")
    text = (
        f"\n\nBefore each of its {critic['rounds']} rounds the critic predicted the rollouts to "
        f"come, {critic['rollouts']} in all. The root mean square error of ln(divergence) is "
        f"{critic['rmse']:.3f}"
    )
    text += f", the correlation {related:.2f}" if related is not None else ""
    return text + (
        f". {critic['within_1']:.0%} lie within one and {critic['within_2']:.0%} within two "
        "standard deviations (68 % and 95 % if the critic knows its errors)."
    )


def frontier_section(run_dir: Path, summary: Mapping[str, Any]) -> str:
    """The section on the profiles that the policy emits for other targets; empty without."""
    path = run_dir / "frontier.csv"
    if not path.exists():
        return ""
    frame, metric = read_frontier(path), metric_of(summary)
    if frame.empty:
        return ""
    columns = (frame[name].tolist() for name in _COLUMNS)
    rows = [
        (
            f"{target:.4g}",
            plain_markdown(supplier),
            f"{predicted:.4f}",
            "failed" if math.isnan(reward) else f"{reward:.4f}",
            "" if math.isnan(accuracy) else metric.show(accuracy),
        )
        for target, supplier, predicted, reward, accuracy in zip(*columns, strict=True)
    ]
    heads = ("target", "profile by", "predicted reward", "reward", plain_markdown(metric.name))
    table = markdown_table([heads, *rows], ("right", "left", "right", "right", "right"))
    low, high = frame["target"].min(), frame["target"].max()
    return (
        "## One search, any target\n\nThe policy of this search gives a profile for any target "
        f"from {low:g} to {high:g}, without a rollout (`ws_policy`). Here each was scored once on "
        "the search images, without training. These rollouts are not part of the search. "
        "Exact numbers: "
        f"[frontier.csv](frontier.csv).\n\n{table}"
    )
