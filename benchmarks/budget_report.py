"""Markdown of the table that `benchmarks.budget_table` fills."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["write_report"]

_HEAD = """\
# Budgets on six networks

    python -m benchmarks.budget_table --out experiments/results/budgets

{about}. Every entrant has the same latency in our runtime, one thread, a share of the fastest dense
run of our runtime, and the same training. `joint` chooses pattern, ratio and number format of each
layer; the others have one pattern and choose ratio and number format; `channels` removes whole
channels, heads and neurons for the same milliseconds in ONNX Runtime. Ratios are those of
`divergence`, without rollouts. Accuracy is that of the compiled network, bytes included, on the
test split. A pattern that cannot reach the latency has no accuracy.
"""


_NUMBERS = ("asked_ms", "predicted_ms", "pruned_ms", "finished_ms", "dense_accuracy")


def write_report(folder: Path) -> str:
    """Write README.md beside `rows.csv`; return the text."""
    import pandas as pd

    from benchmarks.budget_networks import NETWORKS
    from ws_learner.core import choose_device, describe_machine, write_text

    rows = pd.read_csv(folder / "rows.csv")
    rows = rows.reindex(columns=[*rows, *(name for name in _NUMBERS if name not in rows)])
    about = str(describe_machine(choose_device())["cpu"])
    parts = [_HEAD.format(about=about)]
    parts += [_budgets(rows), _entrants(rows)]
    setting = ", ".join(
        f"{name} {one.share:g} at batch {one.batch}, {one.epochs:g} epochs"
        for name, one in NETWORKS.items()
        if name in set(rows["network"])
    )
    parts.append(f"Shares, batches and lengths: {setting}. All rows: `rows.csv`.")
    text = "\n".join(parts) + "\n"
    write_text(folder / "README.md", text)
    return text


def _budgets(rows: pd.DataFrame) -> str:
    """What was asked, and what `joint` came to."""
    lines = [
        "## Asked and measured (joint choice)\n",
        "| network | asked ms | predicted | pruned | finished | dense | joint "
        "| best single pattern | channels in ONNX Runtime |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, own in rows.groupby("network", sort=False):
        mean = own.groupby("entrant")["accuracy"].mean()
        joint = own[own["entrant"] == "joint"]
        singles = mean.drop(["joint", "channels"], errors="ignore").dropna()
        best = f"{singles.max():.4f} ({singles.idxmax()})" if len(singles) else "none"
        lines.append(
            f"| {name} | {joint['asked_ms'].mean():.4g} | {joint['predicted_ms'].mean():.4g} "
            f"| {joint['pruned_ms'].mean():.4g} "
            f"| {joint['finished_ms'].mean():.4g} | {own['dense_accuracy'].mean():.4f} "
            f"| {mean.get('joint', float('nan')):.4f} | {best} "
            f"| {mean.get('channels', float('nan')):.4f} |"
        )
    return "\n".join(lines) + "\n"


def _entrants(rows: pd.DataFrame) -> str:
    """Paired differences of `joint` from each entrant."""
    lines = [
        "## Joint choice minus each entrant, in points, paired by seed\n",
        "| network | entrant | accuracy | joint is ahead by | seeds | why not |",
        "|---|---|---:|---:|---:|---|",
    ]
    for (name, entrant), own in rows.groupby(["network", "entrant"], sort=False):
        joint = rows[(rows["network"] == name) & (rows["entrant"] == "joint")]
        pairs = own.merge(joint, on="seed", suffixes=("", "_joint"))
        ahead = 100 * (pairs["accuracy_joint"] - pairs["accuracy"]).dropna()
        spread = f" ± {ahead.std(ddof=1):.2f}" if len(ahead) > 1 else ""
        shown = f"{ahead.mean():+.2f}{spread}" if len(ahead) and entrant != "joint" else ""
        failed = own["failed"].dropna().astype(str).str.replace("|", "/")
        why = next((text for text in failed if text and text != "nan"), "")
        accuracy = own["accuracy"].mean()
        lines.append(
            f"| {name} | {entrant} | {'' if accuracy != accuracy else f'{accuracy:.4f}'} "
            f"| {shown} | {len(own)} | {why} |"
        )
    return "\n".join(lines) + "\n"
