"""Build the sparse networks and dense baselines of a `sparse_inference` row."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.sparse_baselines import encoder_baselines, fp32_baselines, int8_baselines
from benchmarks.sparse_measure import Run, Subject
from benchmarks.sparse_rows import CONVOLUTIONS, TRAINED, Row
from ws_learner.deploy import CompiledModel, compile_sparse, largest_block
from ws_learner.pruning import parse_pattern

__all__ = ["prune", "subject", "trained_zeros"]

_DLRM_ROWS, _DLRM_TABLES, _DLRM_NUMBERS = 20_000, 26, 13


def prune(model: nn.Module, pattern: str, ratio: float, *, seed: int = 0) -> nn.Module:
    """A copy with random weights of uneven rows, pruned by magnitude: imbalanced as real masks."""
    generator = torch.Generator().manual_seed(seed)
    model, units = copy.deepcopy(model).eval(), parse_pattern(pattern)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Conv2d) and module.weight.numel() > 4096:
                weight = module.weight
                weight.normal_(0, weight[0].numel() ** -0.5, generator=generator)
                rows = torch.randn(len(weight), generator=generator).mul(0.2).exp()
                score = weight.abs() * rows.reshape(-1, *[1] * (weight.dim() - 1))
                zeros = units.feasible(tuple(weight.shape), round(ratio * weight.numel()))
                weight.mul_(units.mask(score, zeros))
    return model


def trained_zeros(minilm: Path) -> tuple[str, float]:
    """Pattern and share of the zeros in the encoder's matrices of a trained MiniLM."""
    weights = [w for n, w in _trained(minilm).items() if "encoder" in n and w.dim() == 2]
    zeros = sum(int((w == 0).sum()) for w in weights)
    return largest_block(weights[0].numpy()), zeros / sum(w.numel() for w in weights)


def _trained(minilm: Path) -> dict[str, Tensor]:
    from experiments.cli.dense_weights import load_dense_state

    return load_dense_state(minilm, flag="--minilm ")


def subject(row: Row, *, minilm: Path | None = None) -> Subject:
    """What this row measures; `minilm` is where trained weights of MiniLM are."""
    if row.part == "dlrm":
        return _dlrm(row)
    if row.part == "conv":
        return _conv(row)
    if row.part in ("bert", "minilm"):
        return _encoder(row, minilm)
    dense, x, baselines = _linear(row.case)
    return _of(_compiled(prune(dense, row.pattern, row.sparsity), x, row), x, baselines)


def _compiled(model: nn.Module, inputs: Any, row: Row) -> CompiledModel:
    return compile_sparse(
        model,
        inputs,
        dtype=row.dtype,  # type: ignore[arg-type]
        calibration=[inputs],
        threads=row.threads,
    )


def _kernels(model: CompiledModel) -> str:
    return "; ".join(dict.fromkeys(model.report()["kernel"]))


def _of(fast: CompiledModel, x: Tensor, baselines: dict[str, dict[str, Run]]) -> Subject:
    return Subject(run=lambda: fast(x), kernels=_kernels(fast), baselines=baselines)


@functools.lru_cache(maxsize=1)
def _linear(case: str) -> tuple[nn.Module, Tensor, dict[str, dict[str, Run]]]:
    generator = torch.Generator().manual_seed(1)
    tokens = int(case.removeprefix("FFN ").removeprefix("MLP ").split()[0])
    if case.startswith("FFN"):
        dense = nn.Sequential(nn.Linear(768, 3072), nn.ReLU(), nn.Linear(3072, 768))
    elif case.startswith("MLP"):
        parts = [part for _ in range(3) for part in (nn.Linear(1024, 1024), nn.ReLU())]
        dense = nn.Sequential(*parts[:-1])
    else:
        inputs, _, outputs = case.split()[2:]
        dense = nn.Sequential(nn.Linear(int(inputs), int(outputs)))
    width = next(dense.parameters()).shape[1]
    x = torch.randn(tokens, width, generator=generator)
    plain = prune(dense, "1x1", 0.0)
    return dense, x, {"fp32": fp32_baselines(plain, x), "int8": int8_baselines(plain, x)}


def _conv(row: Row) -> Subject:
    inputs, outputs, size, kernel = CONVOLUTIONS[row.case]
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    dense, x = nn.Sequential(layer).eval(), torch.randn(1, inputs, size, size)
    wide: Any = copy.deepcopy(dense)
    wide = wide.to(memory_format=torch.channels_last)
    y = x.contiguous(memory_format=torch.channels_last)
    baselines: dict[str, Run] = {"torch": lambda: dense(x), "nhwc": lambda: wide(y)}
    fast = _compiled(prune(dense, row.pattern, row.sparsity), x, row)
    return _of(fast, x, {"fp32": baselines | fp32_baselines(dense, x, engines_only=True)})


@functools.lru_cache(maxsize=1)
def _dense_encoder(case: str, minilm: Path | None) -> tuple[nn.Module, Tensor, Any]:
    generator = torch.Generator().manual_seed(0)
    if case.startswith("MiniLM"):
        from experiments.models.sentence_bert import build_classifier

        model = build_classifier((6, 384, 12, 1536), 6).eval()
        if minilm is not None:
            model.load_state_dict(_trained(minilm))
        words = torch.randint(1000, 30522, (1, 32), generator=generator)
    else:
        from experiments.models.bert import Bert

        model = Bert((int(case.split()[1]), 768, 12, 3072)).eval()
        words = torch.randint(1000, 30522, (1, 128), generator=generator)
    return model, words, encoder_baselines(model if minilm else prune(model, "1x1", 0.0), words)


def _encoder(row: Row, minilm: Path | None) -> Subject:
    trained = row.case == TRAINED
    model, words, baselines = _dense_encoder(row.case, minilm if trained else None)
    sparse = model if trained else prune(model, row.pattern, row.sparsity)
    return _of(_compiled(sparse, words, row), words, baselines)


def _dlrm(row: Row) -> Subject:
    """The quick front is given to dense INT8 as well; `int8_plain` has the ordinary one."""
    from experiments.models.dlrm import QuickDLRM

    batch = int(row.case.split()[-1])
    generator = torch.Generator().manual_seed(batch)
    indices = torch.randint(0, _DLRM_ROWS, (batch, _DLRM_TABLES), generator=generator)
    inputs = torch.rand(batch, _DLRM_NUMBERS, generator=generator), indices
    net = _dlrm_net()
    sparse = copy.copy(net)
    sparse._modules = dict(net._modules)  # tables are shared: they are 260 MB
    for name in ("bot_l", "top_l"):
        setattr(sparse, name, prune(getattr(net, name), row.pattern, row.sparsity))
    fast = _compiled(QuickDLRM(sparse, threads=row.threads), inputs, row)
    quick = _compiled(QuickDLRM(net, threads=row.threads), inputs, row)
    plain = _compiled(net, inputs, row)

    def run_of(model: Callable[..., object]) -> Run:
        return lambda: model(*inputs)

    baselines = {
        "fp32": {"torch": run_of(net)},
        "int8": {f"same front; {_kernels(quick)}": run_of(quick)},
        "int8_plain": {"torch's front": run_of(plain)},
    }
    return Subject(
        run=run_of(fast),
        kernels=_kernels(fast),
        baselines=baselines,
        latency="int8" if batch <= 64 else "",
    )


@functools.lru_cache(maxsize=1)
def _dlrm_net() -> Any:
    from experiments.models.dlrm import DLRM

    torch.manual_seed(0)
    return DLRM([_DLRM_ROWS] * _DLRM_TABLES).eval()
