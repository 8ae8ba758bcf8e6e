"""The page of `sparse_convolutions`."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterator
from pathlib import Path

from ws_learner.core import write_text

__all__ = ["COLUMNS", "crossover", "write_page"]

COLUMNS = (
    *("part", "case", "batch", "dtype", "pattern", "sparsity"),
    *("kernel", "ms", "x_torch", "x_dense", "best_dense", "x_int8", "x_im2col"),
)
_HEAD = """# Sparse convolutions on a CPU

Made by `OMP_NUM_THREADS=1 python -m benchmarks.sparse_convolutions`. Machine: {machine}.

A ratio is the other engine's time divided by that of what `compile_sparse` made: the median over
pairs of processor times in one process, each the least of some calls, one thread. FP32 in and out.
Weights are random, so nothing here is said about accuracy. Losing rows are kept; `dense` means
that no sparse kernel won its trial. "Best dense" is the fastest FP32 engine for the layer, its
weight laid out beforehand where it can be.
"""
_Line = dict[str, str]


def write_page(folder: Path) -> None:
    """Write `convolutions.md` from `convolutions.csv`."""
    with (folder / "convolutions.csv").open() as file:
        lines = list(csv.DictReader(file))
    layers, networks = ([x for x in lines if x["part"] == p] for p in ("layer", "network"))
    parts = [_HEAD.format(machine=_machine()), *_tables(networks, "ResNet-20, whole")]
    parts += [*_crossovers(layers), *_tables(layers, "Single layers, 3x3")]
    write_text(folder / "convolutions.md", "\n".join(parts))


def crossover(lines: list[_Line]) -> float | None:
    """Share of zeros from which one layer's sparse kernel beats the best dense engine.

    Time grows linearly with the density: least squares over the rows that a sparse kernel won.
    None with fewer than two such rows; 0 where the line says that it always does.
    """
    won = [x for x in lines if not x["kernel"].startswith("dense") and x["x_dense"]]
    if len(won) < 2:
        return None
    density = [1 - float(x["sparsity"]) for x in won]
    slope, start = statistics.linear_regression(density, [1 / float(x["x_dense"]) for x in won])
    if slope <= 0:
        return 0.0
    return min(max(1 - (1 - start) / slope, 0.0), 1.0)


def _crossovers(lines: list[_Line]) -> Iterator[str]:
    kinds = list(dict.fromkeys((x["dtype"], x["pattern"]) for x in lines))
    cases = list(dict.fromkeys((x["case"], x["batch"]) for x in lines))
    yield "## From how many zeros a sparse kernel beats the best dense FP32 engine\n"
    yield "A line through the measured times over density; below the least measured share (70 %)"
    yield "it is an extrapolation.\n"
    yield f"| layer | batch | {' | '.join(' '.join(k) for k in kinds)} |"
    yield "|---|---:|" + "---:|" * len(kinds)
    for case in cases:
        cells = []
        for kind in kinds:
            own = [x for x in lines if (x["case"], x["batch"]) == case]
            found = crossover([x for x in own if (x["dtype"], x["pattern"]) == kind])
            cells.append("" if found is None else f"{found:.0%}")
        yield f"| {case[0]} | {case[1]} | {' | '.join(cells)} |"
    yield ""


def _tables(lines: list[_Line], title: str) -> Iterator[str]:
    yield f"## {title}\n"
    heads = ("case", "batch", "type", "pattern", "zeros", "ms", "x PyTorch", "x best dense FP32")
    yield f"| {' | '.join(heads)} | best dense | x dense INT8 | x im2col | kernel |"
    yield "|---|---:|---|---|---:|---:|---:|---:|---|---:|---:|---|"
    for x in lines:
        cells = [x[name] for name in ("case", "batch", "dtype", "pattern")]
        cells += [f"{float(x['sparsity']):.0%}", x["ms"], *(_short(x[n]) for n in COLUMNS[8:10])]
        cells += [x["best_dense"], _short(x["x_int8"]), _short(x["x_im2col"]), x["kernel"]]
        yield f"| {' | '.join(cells)} |"
    yield ""


def _short(text: str) -> str:
    return f"{float(text):.2g}" if text else ""


def _machine() -> str:
    import torch

    from ws_learner.deploy import cpu_key

    return f"{cpu_key()}; torch {torch.__version__}"
