"""Speed of sparse layers and networks over the best dense engine on this machine.

    python -m benchmarks.sparse_inference [--full] [--only layer mlp ...]

Every row compares a sparse network with dense engines (PyTorch, ONNX Runtime and, if it can be
imported, OpenVINO) in float32 and INT8. Two pieces of work run in turn in one process; what counts
is the median of the rounds' ratios of processor time (of wall time with two threads; each the least
of some calls), with its quartiles. Rows that are measured already are not measured again, so a
stopped run resumes. The outputs are not compared here: tests do that.

Each setting (threads, AMX or not) has a process of its own. Without AMX, the system refuses the
tile registers to all engines alike. OpenVINO in a folder of its own: PYTHONPATH=DIR.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.sparse_rows import PARTS, Row, rows, trained_rows

__all__ = ["main"]

_OUT = Path("experiments/results/sparse_inference")
_WITHOUT_AMX = ("layer", "mlp", "bert", "minilm")
_TWO_THREADS = ("mlp", "dlrm")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, setting by setting; write the page."""
    given = _parser().parse_args(arguments)
    if given.setting is not None:
        return _measure(given)
    settings = list(itertools.product(given.threads, given.amx))
    for threads, amx in settings:
        if not _parts(given, threads=threads, amx=amx == "on"):
            continue
        own = [*(sys.argv[1:] if arguments is None else arguments), "--setting", str(threads), amx]
        environment = {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-m", "benchmarks.sparse_inference", *own]
        code = subprocess.run(command, env=os.environ | environment, check=False).returncode
        if code:
            return code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="every row, in every setting (hours)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="default: 1 2")
    parser.add_argument("--amx", nargs="+", choices=("on", "off"), default=["on", "off"])
    parser.add_argument("--rounds", type=int, default=11, help="pairs of timings (default 11)")
    parser.add_argument("--out", type=Path, default=_OUT, help=f"folder (default {_OUT})")
    parser.add_argument(
        "--minilm", type=Path, help="also a trained one: a run of bert_at_trec, or its weights"
    )
    parser.add_argument("--setting", nargs=2, help=argparse.SUPPRESS)
    return parser


def _parts(given: argparse.Namespace, *, threads: int, amx: bool) -> list[str]:
    """The small selection leaves out what a setting says little about."""
    own = list(given.only)
    if not given.full and not amx:
        own = [] if threads > 1 else [p for p in own if p in _WITHOUT_AMX]
    if not given.full and threads > 1:
        own = [p for p in own if p in _TWO_THREADS]
    return own


def _measure(given: argparse.Namespace) -> int:
    """One setting, in this process."""
    threads, amx = int(given.setting[0]), given.setting[1] == "on"
    if not amx:
        from benchmarks.no_amx import forbid_amx

        forbid_amx()
    from benchmarks import sparse_table
    from ws_learner.core import track

    parts = _parts(given, threads=threads, amx=amx)
    wanted = rows(parts, full=given.full, threads=threads, amx=amx)
    if given.minilm is not None and "minilm" in parts:
        from benchmarks.sparse_subjects import trained_zeros

        wanted += trained_rows(*trained_zeros(given.minilm), threads=threads, amx=amx)
    done = sparse_table.measured(given.out)
    left = [row for row in wanted if row.key not in done]
    label = f"{threads} thread(s), AMX {given.setting[1]}"
    with track(label, total=len(wanted), done=len(wanted) - len(left)) as progress:
        for row in left:
            sparse_table.add(given.out, row, _one(row, given))
            progress.advance(note=f"{row.case} {row.dtype} {row.pattern} {row.sparsity:g}")
    sparse_table.write_page(given.out)
    return 0


def _one(row: Row, given: argparse.Namespace) -> dict[str, object]:
    import torch

    from benchmarks.sparse_measure import Timing
    from benchmarks.sparse_subjects import subject

    torch.set_num_threads(row.threads)
    measure = Timing(rounds=given.rounds, threads=row.threads)
    with torch.no_grad():
        return measure.subject(subject(row, minilm=given.minilm))


if __name__ == "__main__":
    raise SystemExit(main())
