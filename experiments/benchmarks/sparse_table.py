"""The page of `sparse_inference`: its CSV as tables, with the targets beside what was measured."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

__all__ = ["write_page"]

_TITLES = {
    "layer": "One layer, 128 tokens, 768 to 3072",
    "mlp": "Stacks of linear layers",
    "gemv": "One token, 1024 to 4096",
    "conv": "Convolutions, one image",
    "bert": "BERT-base encoder (two layers), 128 words; the INT8 rival: INT8 linear layers",
    "dlrm": "DLRM of MLPerf's size, 26 tables of 20,000 rows",
}
_COLUMNS = {
    "case": "case",
    "dtype": "type",
    "pattern": "pattern",
    "sparsity": "zeros",
    "kernels": "kernel chosen",
    "ms": "ms",
    "x_torch_fp32": "x torch FP32",
    "x_fp32": "x best FP32",
    "best_fp32": "which",
    "x_int8": "x best INT8",
    "best_int8": "which ",
    "x_int8_plain": "x INT8, plain front",
    "p99_ms": "p99 ms",
    "p99_ms_int8": "p99 ms, dense INT8",
}
_HEAD = """# Sparse inference on a CPU

Times are of the compiled network or layer, FP32 in and out, quantising included. Ratios are
medians over rounds of pairs in one process, of processor time with one thread: above 1 the sparse
one is faster. "Best" is the fastest engine of its kind in that process. Rows that lose are kept.
Weights are random with uneven rows, pruned by magnitude.

    python -m experiments.benchmarks.sparse_inference --out experiments/results/sparse_inference
"""


def write_page(folder: Path) -> None:
    """Write README.md from results.csv; what stands below the line `## Notes` is kept."""
    from ws_learner.files import write_text

    page, data = folder / "README.md", pd.read_csv(folder / "results.csv")
    old = page.read_text() if page.exists() else ""
    notes = old[old.index("## Notes") :] if "## Notes" in old else "## Notes\n"
    parts = [_HEAD]
    for (amx, threads), rows in data.groupby(["amx", "threads"], sort=False):
        parts.append(f"## {'With' if amx else 'Without'} AMX, {threads} thread(s)\n")
        for part, own in rows.groupby("part", sort=False):
            parts += [f"### {_TITLES[str(part)]}\n", _table(own), ""]
    write_text(page, "\n".join([*parts, notes]))


def _table(rows: pd.DataFrame) -> str:
    shown = rows[[c for c in _COLUMNS if c in rows and rows[c].notna().any()]]
    if shown["case"].nunique() == 1:
        shown = shown.drop(columns="case")
    lines = ["| " + " | ".join(_COLUMNS[c] for c in shown.columns) + " |"]
    lines.append("|" + "---|" * len(shown.columns))
    for row in shown.itertuples(index=False):
        lines.append("| " + " | ".join(_short(value) for value in row) + " |")
    return "\n".join(lines)


def _short(value: object) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.3g}"
    return str(value)
