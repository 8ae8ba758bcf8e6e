"""The Markdown report `report.md` of a run, written from the files in its directory."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ws_learner.core import AnyPath, as_path, read_json, read_text, shown, write_text
from ws_learner.report.csv_io import read_rollouts
from ws_learner.report.frontier_section import critic_sentence, frontier_section
from ws_learner.report.headlines import (
    layer_rows,
    result_rows,
    table_align,
    table_heads,
    title,
    total_row,
)
from ws_learner.report.markdown_table import fenced, markdown_table, plain_markdown
from ws_learner.report.metric_text import metric_of
from ws_learner.report.metrics import SCALARS, read_metrics
from ws_learner.report.table import read_table

__all__ = ["headline", "write_report"]

_CAPTIONS = {
    "summary": "The dense and the pruned network, and the prune ratio of each layer.",
    "ratios": "Prune ratio of each layer; the dashed line is what a uniform allocation would give.",
    "schedule": "Overall sparsity and the metric over the optimizer steps.",
    "search": "Reward of each rollout and the best so far.",
    "frontier": "Reward and metric of the emitted profile at each target, on the search images.",
    "policy": "What the policy emits at several targets, and what pruning each layer alone does.",
}

_PICTURES = {".svg", ".png"}
_LINK = re.compile(r"\]\(((?:figures/)?[\w.-]+\.(?:csv|svg|png))\)")


def write_report(run_dir: AnyPath, path: AnyPath | None = None) -> Path:
    """Write `report.md` from the files of a finished run.

    Reads `summary.json` and, where they exist, `config.yaml`, `ratios.csv`, `metrics.csv`,
    `rollouts.csv` and `figures/`.

    Args:
        run_dir: The run.
        path: The report's file; by default `report.md` in the run's folder. Links of a report
            elsewhere lead to that folder.

    Returns:
        The path of the report.

    Raises:
        UserError: The report cannot be written.
    """
    run_dir = as_path(run_dir, name="run_dir")
    summary: dict[str, Any] = read_json(run_dir / "summary.json")
    ratios = run_dir / "ratios.csv"
    frame = read_table(ratios) if ratios.exists() else None
    sections = [
        f"# {plain_markdown(title(summary))}",
        headline(summary),
        _results(summary, frame),
        _reproduce(run_dir, summary),
        _layers(frame),
        _figures(run_dir),
        _search(run_dir, summary),
        frontier_section(run_dir, summary),
        _splits(summary),
        _log(run_dir),
        _surroundings(summary),
    ]
    text = "\n\n".join(section for section in sections if section) + "\n"
    target = run_dir / "report.md" if path is None else as_path(path)
    if target.resolve().parent != run_dir.resolve():
        there = Path(os.path.relpath(run_dir.resolve(), target.resolve().parent)).as_posix()
        text = _LINK.sub(rf"](<{there}/\1>)", text)
    write_text(target, text)
    return target


def headline(summary: Mapping[str, Any]) -> str:
    """One sentence on the result, in Markdown; empty without a measurement."""
    metric = metric_of(summary)
    dense, sparse = metric.value("dense"), metric.value("sparse")
    ratio = summary.get("achieved_prune_ratio")
    name = plain_markdown(metric.name)
    lower = "" if metric.higher_is_better else " Lower is better."
    if sparse is not None and ratio is not None:
        before = f", the dense network's {metric.show(dense)}" if dense is not None else ""
        return (
            f"**With {ratio:.2%} of the weights zero the {metric.measured_on} {name} is "
            f"{metric.show(sparse)}{before}.**{lower}"
        )
    if dense is not None:
        on = metric.measured_on
        return f"**The dense network's {on} {metric.name} is {metric.show(dense)}.**{lower}"
    return ""


def _results(summary: Mapping[str, Any], frame: pd.DataFrame | None) -> str:
    rows = [tuple(map(plain_markdown, row)) for row in result_rows(summary, frame)]
    return markdown_table([("", "result"), *rows], ("left", "right")) if rows else ""


def _reproduce(run_dir: Path, summary: Mapping[str, Any]) -> str:
    command = summary.get("command")
    if not command:
        return ""
    line = command if isinstance(command, str) else shlex.join(command)
    seed = f" The seed is {summary['seed']}." if "seed" in summary else ""
    init = summary.get("init")
    start = f" It started from: {plain_markdown(init)}." if init else ""
    again = f"The same command shows this report again.{seed}{start}"
    text = f"## How to reproduce it\n\n{fenced(line, 'bash')}\n\n{again}"
    config = run_dir / "config.yaml"
    if config.exists():
        text += (
            "\n\n<details><summary>All settings (<code>config.yaml</code>, which can be read "
            "again as a configuration file)</summary>\n\n"
            f"{fenced(_settings(config), 'yaml')}\n\n"
            "</details>"
        )
    return text


def _settings(config: Path) -> str:
    return read_text(config, where=str(config), remedy="take it from a copy", most=1 << 20).strip()


def _layers(frame: pd.DataFrame | None) -> str:
    if frame is None:
        return ""
    bold = tuple(f"**{cell}**" if cell else "" for cell in total_row(frame))
    rows = [tuple(map(plain_markdown, row)) for row in layer_rows(frame)]
    table = markdown_table([table_heads(frame), *rows, bold], table_align(frame))
    return (
        "## Layers\n\nThe prune ratio is the share of zero weights: *chosen* by the protocol, "
        "*achieved* counted in the saved file. MACs are multiply-accumulates of one example; "
        f"kept are those with a nonzero weight. Exact numbers: [ratios.csv](ratios.csv).\n\n{table}"
    )


def _figures(run_dir: Path) -> str:
    known = list(_CAPTIONS)
    files = sorted(
        (path for path in (run_dir / "figures").glob("*") if path.suffix in _PICTURES),
        key=lambda path: (
            known.index(path.stem) if path.stem in known else len(known),
            path.name,
        ),
    )
    blocks = []
    for path in files:
        caption = _CAPTIONS.get(path.stem, path.stem.replace("_", " "))
        blocks.append(f"![{path.stem}](figures/{path.name})\n\n{caption}")
    return "\n\n".join(["## Figures", *blocks]) if blocks else ""


def _search(run_dir: Path, summary: Mapping[str, Any]) -> str:
    path = run_dir / "rollouts.csv"
    if not path.exists():
        return ""
    rollouts = read_rollouts(path)
    if rollouts.empty:
        return ""
    rewards = rollouts["reward"].where(rollouts["failed"].eq(""))
    rows = [
        (plain_markdown(kind), f"{group.size:,}", f"{group.mean():.4f}", f"{group.max():.4f}")
        for kind, group in rewards.groupby(rollouts["kind"], sort=False)
    ]
    heads = ("kind", "rollouts", "mean reward", "best reward")
    table = markdown_table([heads, *rows], ("left", "right", "right", "right"))
    failed = int(rollouts["failed"].ne("").sum())
    note = f"\n\n{_chosen(rollouts, summary.get('chosen_rollout'))}"
    if rollouts["kind"].eq("select").any():
        note += "\n\nRows of kind `select` are the best few, scored again on the select images: "
        note += "the mean of jittered copies, see docs/protocols.md."
    note += f"\n\n{failed} could not be scored; `rollouts.csv` says why." if failed else ""
    note += critic_sentence(summary)
    return f"## Search\n\nEvery candidate is in [rollouts.csv](rollouts.csv).\n\n{table}{note}"


def _chosen(rollouts: pd.DataFrame, number: int | None) -> str:
    """A sentence on the chosen rollout and its rewards; without `number` the best one."""
    good = rollouts[rollouts["failed"].eq("")]
    if good.empty:
        return "No rollout could be scored."
    again = good[good["kind"].eq("select")]
    among = good if again.empty else again
    winner = among.iloc[[int(among["reward"].to_numpy().argmax())]]
    if number is not None and rollouts["rollout"].eq(number).any():
        winner = rollouts[rollouts["rollout"].eq(number)]
    same = _alike(good, winner).iloc[0]
    kind = shown(same["kind"]).replace("`", "'")
    text = f"Chosen: rollout {same['rollout']} (`{kind}`), reward {same['reward']:.4f}"
    scored = _alike(again, winner)
    if scored.empty:
        return f"{text}."
    return f"{text} on the search images, {scored['reward'].iloc[0]:.4f} on the select images."


def _alike(rollouts: pd.DataFrame, one: pd.DataFrame) -> pd.DataFrame:
    """The rollouts with the profile of `one`, a single row."""
    profiles = rollouts.filter(regex="^zeros/").to_numpy()
    same = (profiles == one.filter(regex="^zeros/").to_numpy()).all(axis=1)
    found: pd.DataFrame = rollouts.iloc[same.nonzero()[0]]
    return found


def _splits(summary: Mapping[str, Any]) -> str:
    metric = metric_of(summary)
    searched, sparse = bool(summary.get("rollouts")), metric.value("sparse") is not None
    uses = {
        "train": "training" + (", calibration images, batch-norm statistics" if sparse else ""),
        "search": "the reward of each rollout; never trained on" if searched else "",
        "select": f"{plain_markdown(metric.name)} while training"
        + (", re-scoring of the best few rollouts" if searched else "")
        + "; never trained on",
        metric.measured_on: "the metric at the top; read once, at the end",
    }
    own = summary.get("split_uses")  # of what is not trained
    uses = dict(own) if isinstance(own, Mapping) else uses
    sizes = dict(summary.get("split_sizes") or {})
    distinct = "The splits are disjoint."
    if metric.measured_on != "test":
        sizes[metric.measured_on] = sizes.pop("test", 0)
        distinct = (
            "There was no test set: the metric at the top is of the validation examples, which are "
            "those of search and select and helped to choose the ratios. Training never saw them."
        )
    heads: tuple[str, ...] = ("split", "used for")
    align: tuple[str, ...] = ("left", "left")
    rows: list[tuple[str, ...]] = [
        (plain_markdown(name), plain_markdown(use)) for name, use in uses.items() if use
    ]
    if sizes:
        heads, align = (*heads, "examples"), (*align, "right")
        rows = [(*row, f"{sizes[row[0]]:,}" if row[0] in sizes else "") for row in rows]
    table = markdown_table([heads, *rows], align)
    return f"## What was measured on which split\n\n{distinct}\n\n{table}"


def _log(run_dir: Path) -> str:
    path = run_dir / "metrics.csv"
    if not path.exists():
        return ""
    frame = read_metrics(path)
    rows = [
        (f"`{name}`", f"{frame[name].dropna().iloc[-1]:.6g}", meaning)
        for name, meaning in SCALARS.items()
        if name in frame and frame[name].notna().any()
    ]
    if not rows:
        return ""
    table = markdown_table([("scalar", "last", "meaning"), *rows], ("left", "right", "left"))
    return f"## Training log\n\n{len(frame):,} rows in [metrics.csv](metrics.csv).\n\n{table}"


def _surroundings(summary: Mapping[str, Any]) -> str:
    rows = list((summary.get("versions") or {}).items())
    hardware = summary.get("hardware")
    if isinstance(hardware, Mapping):
        rows += list(hardware.items())
    elif hardware:
        rows.append(("hardware", hardware))
    if not rows:
        return ""
    cells = [(plain_markdown(name), plain_markdown(value)) for name, value in rows]
    table = markdown_table([("what", "version"), *cells], ("left", "left"))
    return f"## Versions and hardware\n\n{table}"
