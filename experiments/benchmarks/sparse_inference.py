"""How much faster are sparse layers and networks than the best dense engine here?

    python -m experiments.benchmarks.sparse_inference [--only layer mlp ...] [--out DIR]

Every row compares a sparse kernel with dense engines (PyTorch, ONNX Runtime and, where they are
installed, OpenVINO), float32 and INT8. Two pieces of work run in turn in one process; what is
shown is the median of the rounds' ratios of processor time (of wall time with two threads).
The outputs are not compared here: tests do that. With OpenVINO in a folder of its own, put that
folder into PYTHONPATH. ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI switches AMX off for PyTorch and
OpenVINO, `--no_amx` for our kernels.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["main"]

PARTS = ("layer", "mlp", "gemv", "conv", "bert", "dlrm")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts asked for; write one CSV and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts")
    parser.add_argument("--threads", type=int, default=1, help="1 (default) or 2")
    parser.add_argument("--rounds", type=int, default=11, help="pairs of timings (default 11)")
    parser.add_argument("--no_amx", action="store_true", help="do not use AMX kernels")
    parser.add_argument(
        "--out", type=Path, help="folder for results.csv (rows are added) and README.md"
    )
    given = parser.parse_args(arguments)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported
    import pandas as pd
    import torch

    from experiments.benchmarks import dlrm_speed, sparse_cases, sparse_table
    from experiments.benchmarks.sparse_measure import Measure

    torch.set_num_threads(given.threads)
    if given.no_amx:
        _without_amx()
    measure = Measure(rounds=given.rounds, threads=given.threads)
    rows: list[dict[str, Any]] = []
    for part in given.only:
        cases = sparse_cases.CASES | {"dlrm": dlrm_speed.dlrm_rows}
        for row in cases[part](measure):
            row = {"part": part, "threads": given.threads, "amx": not given.no_amx, **row}
            rows.append(row)
            print(
                {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True
            )
            if given.out:
                _append(given.out / "results.csv", pd.DataFrame([row]))
    if given.out:
        sparse_table.write_page(given.out)
    return 0


class _Raw(argparse.RawDescriptionHelpFormatter):
    pass


def _without_amx() -> None:
    from ws_learner.runtime import candidates, choice, cpu

    kept = tuple(isa for isa in cpu.usable_isas() if isa.dot != "amx")
    for module in (candidates, choice):
        module.usable_isas = lambda: kept  # type: ignore[attr-defined]


def _append(path: Path, frame: Any) -> None:
    import pandas as pd

    if path.exists():
        frame = pd.concat([pd.read_csv(path), frame], ignore_index=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False, float_format="%.4g")


if __name__ == "__main__":
    raise SystemExit(main())
