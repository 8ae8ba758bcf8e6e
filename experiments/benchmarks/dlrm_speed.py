"""A DLRM of MLPerf's size, whole: examples a second in large batches, and latency in small ones."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from experiments.benchmarks.sparse_cases import prune
from experiments.benchmarks.sparse_measure import Measure
from experiments.nets.dlrm import DLRM, QuickDLRM
from ws_learner.runtime import CompiledModel, compile_sparse

__all__ = ["dlrm_rows"]

_ROWS, _TABLES, _NUMBERS = 20_000, 26, 13
_CALLS = 300


def dlrm_rows(measure: Measure) -> Iterator[dict[str, Any]]:
    """Offline at 2,048 and online at 1 to 64, sparse INT8 against dense FP32 and INT8.

    The quick front (one bfloat16 table, products in bfloat16) is given to dense INT8 as well:
    `x_int8` is over that, `x_int8_plain` over dense INT8 with the ordinary front.
    """
    torch.manual_seed(0)
    with torch.no_grad():
        net = DLRM([_ROWS] * _TABLES).eval()
        sparse = _pruned(net)
        for batch in (2048, 512, 64, 16, 1):
            inputs = _inputs(batch)
            quick_dense, plain = _int8(QuickDLRM(net), inputs, measure), _int8(net, inputs, measure)
            quick_sparse = _int8(QuickDLRM(sparse), inputs, measure)
            runs = {
                "fp32": lambda: net(*inputs),  # noqa: B023
                "int8": lambda: quick_dense(*inputs),  # noqa: B023
                "int8_plain": lambda: plain(*inputs),  # noqa: B023
            }
            run = lambda: quick_sparse(*inputs)  # noqa: B023, E731
            row: dict[str, Any] = {"case": f"DLRM batch {batch}", "dtype": "int8"}
            row |= {"pattern": "16x4", "sparsity": 0.85, "ms": 1e3 * measure.seconds(run)}
            row["kernels"] = "; ".join(dict.fromkeys(quick_sparse.report()["kernel"]))
            row |= {f"x_{name}": measure.ratio(other, run) for name, other in runs.items()}
            row["best_int8"] = "; ".join(dict.fromkeys(quick_dense.report()["kernel"]))
            if batch <= 64:
                row |= {"p99_ms": _p99(run), "p99_ms_int8": _p99(runs["int8"])}
            yield row


def _pruned(net: DLRM) -> DLRM:
    sparse = copy.deepcopy(net)
    for name in ("bot_l", "top_l"):
        setattr(sparse, name, prune(getattr(net, name), "16x4", 0.85))
    return sparse


def _inputs(batch: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(batch)
    indices = torch.randint(0, _ROWS, (batch, _TABLES), generator=generator)
    return torch.rand(batch, _NUMBERS, generator=generator), indices


def _int8(model: nn.Module, inputs: tuple[Tensor, Tensor], measure: Measure) -> CompiledModel:
    return compile_sparse(
        model, inputs, dtype="int8", calibration=[inputs], threads=measure.threads
    )


def _p99(run: Callable[[], object]) -> float:
    """Milliseconds that 99 of 100 calls stay below, by the wall clock."""
    times = []
    for _ in range(_CALLS):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return 1e3 * sorted(times)[int(0.99 * _CALLS) - 1]
