"""Results of `sparse_inference`: a CSV appended row by row, and the page made from it."""

from __future__ import annotations

import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any, cast

import pandas as pd

from benchmarks.sparse_rows import PARTS, Row, rows

__all__ = ["add", "measured", "write_page"]

_TITLES = {
    "layer": "One layer",
    "mlp": "Stacks of linear layers",
    "gemv": "One token",
    "conv": "Convolutions, one image",
    "bert": "BERT-base",
    "minilm": "MiniLM",
    "dlrm": "DLRM of MLPerf's size, 26 tables of 20,000 rows",
}
_KEYS = ("part", "case", "dtype", "pattern", "sparsity", "threads", "amx")
_RATIOS = {
    "x_torch_fp32": "x PyTorch FP32",
    "x_fp32": "x best FP32",
    "x_int8": "x best INT8",
    "x_int8_plain": "x INT8, ordinary front",
}
_PACKAGES = ("torch", "onnxruntime", "openvino", "llvmlite", "numpy")
_HEAD = """# Sparse inference on a CPU

Made by `python -m benchmarks.sparse_inference` (`--full` for every row). Quick and full rows are
in the same tables. Machine: {machine}

Times are of the compiled network or layer, FP32 in and out, including quantisation. A ratio is the
dense engine's time divided by the sparse one's: the median over rounds of pairs in one process,
with the quartiles in brackets. It uses processor time with one thread and wall time with two. Each
timing is the minimum of at least three calls, since others may be using the machine. "Best" is the
fastest engine of its kind in that process. Losing rows are kept. Weights are random with uneven
rows, pruned by magnitude, so the tables say nothing about accuracy. `load` is the machine's load
(processes that want a core, the benchmark included) while the row was measured.
"""


def measured(folder: Path) -> set[tuple[str, ...]]:
    """Keys of the rows that are there."""
    path = folder / "results.csv"
    if not path.exists():
        return set()
    data = pd.read_csv(path, dtype={name: str for name in _KEYS})
    return set(data[list(_KEYS)].itertuples(index=False, name=None))


def add(folder: Path, row: Row, found: dict[str, Any]) -> None:
    """Append one row's results."""
    from ws_learner.core import write_text

    path = folder / "results.csv"
    frame = pd.DataFrame([dict(zip(_KEYS, row.key, strict=True)) | found])
    if path.exists():
        frame = pd.concat([pd.read_csv(path), frame], ignore_index=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, frame.to_csv(index=False, float_format="%.4g"))
    write_text(folder / "machine.json", json.dumps(_machine(), indent=1) + "\n")


def write_page(folder: Path) -> None:
    """Write README.md from results.csv; what stands below the line `## Notes` is kept."""
    from ws_learner.core import write_text

    page, data = folder / "README.md", pd.read_csv(folder / "results.csv")
    old = page.read_text() if page.exists() else ""
    notes = old[old.index("## Notes") :] if "## Notes" in old else "## Notes\n"
    machine = json.loads((folder / "machine.json").read_text())
    lines = [_HEAD.format(machine=f"{machine['processor']}; {machine['versions']}.")]
    lines += ["## Targets\n", _targets(data), ""]
    for key, own in data.groupby(["threads", "amx"], sort=True):
        threads, amx = cast(tuple[int, bool], key)
        lines.append(f"## {threads} thread{'s' * (threads > 1)}, {'with' if amx else 'no'} AMX\n")
        for part in PARTS:
            of_part = own[own["part"] == part]
            if len(of_part):
                lines += [f"### {_TITLES[part]}\n", _table(of_part), ""]
    write_text(page, "\n".join([*lines, notes]))


def _machine() -> dict[str, str]:
    """Processor and versions, in words."""
    from ws_learner.deploy import cpu_key

    versions = []
    for name in _PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"no {name}")
    return {"processor": f"{os.cpu_count()} x {cpu_key()}", "versions": ", ".join(versions)}


def _targets(data: pd.DataFrame) -> str:
    """One line per target ratio, met or not."""
    keys = [tuple(map(str, key)) for key in data[list(_KEYS)].itertuples(index=False)]
    lines = [
        "| case | threads | AMX | ratio | target | measured | met |",
        "|---|---|---|---|---|---|---|",
    ]
    for threads in (1, 2):
        for amx in (True, False):
            for row in rows(PARTS, full=True, threads=threads, amx=amx):
                for column, least in row.wanted.items():
                    if row.key not in keys:
                        continue
                    got = data.iloc[keys.index(row.key)][column]
                    name = f"{row.case}, {row.dtype} {row.pattern}, {row.sparsity:.0%} zeros"
                    facts = (name, threads, "on" if amx else "off", _RATIOS[column], f"{least:g}")
                    met = "yes" if got >= least else "**no**"
                    lines.append("| " + " | ".join(map(str, (*facts, f"{got:.3g}", met))) + " |")
    return "\n".join(lines)


def _table(data: pd.DataFrame) -> str:
    shown = [name for name in _RATIOS if name in data and data[name].notna().any()]
    late = "p99_sparse" in data and bool(data["p99_sparse"].notna().any())
    head = ["case", "type", "pattern", "zeros", "kernel chosen", "ms"]
    for name in shown:
        head += [_RATIOS[name], *["which"] * (name in ("x_fp32", "x_int8"))]
    head += [*(["p50 ms, sparse / dense", "p99 ms"] if late else []), "load"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for _, row in data.iterrows():
        cells = [row["case"], row["dtype"], row["pattern"], f"{row['sparsity']:g}", row["kernels"]]
        cells.append(f"{row['ms']:.3g}")
        for name in shown:
            cells.append(_with_quartiles(row, name))
            if name in ("x_fp32", "x_int8"):
                cells.append(str(row[f"best_{name[2:]}"]))
        for share in ("p50", "p99") if late else ():
            pair = row[f"{share}_sparse"], row[f"{share}_dense"]
            cells.append("" if pd.isna(pair[0]) else f"{pair[0]:.3g} / {pair[1]:.3g}")
        lines.append("| " + " | ".join([*cells, f"{row['load']:.1f}"]) + " |")
    return "\n".join(lines)


def _with_quartiles(row: Any, name: str) -> str:
    if pd.isna(row[name]):
        return ""
    return f"{row[name]:.3g} ({row[f'{name}_low']:.3g}-{row[f'{name}_high']:.3g})"
