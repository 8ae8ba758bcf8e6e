"""The picture at the top of the README, drawn from the files of one run and its deploy folder.

./run_local.sh resnet_at_cifar10 --budget latency=0.35@wsr --latency_batch 8 --dtype fp32,int8
ws-learner export runs/<one> --to deploy
python -m benchmarks.headline_picture runs/<one> --out docs/images/headline.svg

Dense bytes are those of `model.safetensors`, which stores zeros; dense milliseconds are PyTorch's.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["draw", "main"]


def draw(run: Path, out: Path) -> None:
    """Bars of accuracy, size and latency, dense and pruned, and the ratio of each layer.

    Args:
        run: A finished run with a `deploy` folder.
        out: SVG file.
    """
    from ws_learner.core import RunDir, read_json
    from ws_learner.report import read_table
    from ws_learner.report.figure_style import BLUE, GREY, canvas, quiet

    summary = RunDir(run).read_summary()
    deployed: Any = read_json(run / "deploy" / "deploy.json")
    table = read_table(run / "ratios.csv")
    dense_bytes = (run / "model.safetensors").stat().st_size
    pruned = summary.get("int8_metric", summary["sparse_metric"])
    bars = [
        ("test accuracy, %", 100 * summary["dense_metric"], 100 * pruned, "{:.2f}"),
        ("size, kB", dense_bytes / 1e3, deployed["bytes"] / 1e3, "{:,.0f}"),
        (
            f"latency, ms for {deployed['batch']}",
            deployed["pytorch_ms"]["median"],
            deployed["measured_ms"]["median"],
            "{:.2f}",
        ),
    ]
    with canvas(out, width=9.0, height=2.6) as figure:
        halves: Any = figure.subfigures(1, 2, width_ratios=[1, 1.15])
        left, right = halves
        for axes, (title, dense, sparse, shape) in zip(left.subplots(1, 3), bars, strict=True):
            _pair(axes, title, dense, sparse, shape, colours=(GREY, BLUE))
        axes = right.subplots()
        _ratios(axes, table, colour=BLUE)
        quiet(axes, grid="y")


def _pair(
    axes: Axes, title: str, dense: float, sparse: float, shape: str, *, colours: tuple[str, str]
) -> None:
    bars = axes.bar(["dense", "pruned"], [dense, sparse], color=colours, width=0.65)
    axes.bar_label(bars, labels=[shape.format(dense), shape.format(sparse)], padding=2)
    axes.set_title(title, fontsize=9, fontweight="normal")
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.margins(y=0.15)


def _ratios(axes: Axes, table: pd.DataFrame, *, colour: str) -> None:
    axes.bar(range(len(table)), table["achieved"], color=colour, width=0.8)
    axes.set_ylim(0, 1)
    axes.set_xlabel("layer")
    axes.set_title("share of zeros in each layer", fontsize=9, fontweight="normal")


def main(argv: Sequence[str] | None = None) -> None:
    """Draw it."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("run", type=Path, help="a finished run with a deploy folder")
    parser.add_argument("--out", type=Path, default=Path("docs/images/headline.svg"))
    given = parser.parse_args(argv)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    draw(given.run, given.out)


if __name__ == "__main__":
    main()
