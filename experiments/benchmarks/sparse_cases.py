"""The rows of `sparse_inference`: layers, MLPs, single tokens, convolutions, BERT, DLRM."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from experiments.benchmarks.sparse_measure import Measure
from experiments.benchmarks.sparse_rivals import fp32_rivals, int8_rivals
from ws_learner.runtime import compile_sparse
from ws_learner.sparsity.pattern import parse_pattern

__all__ = ["CASES", "prune"]

Rows = Iterator[dict[str, Any]]
_RATIOS = (0.5, 0.7, 0.8, 0.85, 0.9, 0.95)


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


def _rows(
    measure: Measure, name: str, dense: nn.Module, x: Tensor, cases: list[tuple[str, str, float]]
) -> Rows:
    """One row for each (dtype, pattern, ratio) of a network of linear layers."""
    with torch.no_grad():
        plain = prune(dense, "1x1", 0.0)
        rivals = {"fp32": fp32_rivals(plain, x), "int8": int8_rivals(plain, x)}
        for dtype, pattern, ratio in cases:
            fast = compile_sparse(
                prune(dense, pattern, ratio),
                x,
                dtype=dtype,  # type: ignore[arg-type]
                calibration=[x],
                threads=measure.threads,
            )
            row = {"case": name, "dtype": dtype, "pattern": pattern, "sparsity": ratio}
            row["kernels"] = "; ".join(dict.fromkeys(fast.report()["kernel"]))
            yield row | measure.against(lambda fast=fast: fast(x), rivals)  # type: ignore[misc]


def _table(patterns: dict[str, tuple[str, ...]], ratios: tuple[float, ...]) -> Any:
    return [(d, p, r) for d, ps in patterns.items() for p in ps for r in ratios]


def layers(measure: Measure) -> Rows:
    """BERT-base's first feed-forward layer: 128 tokens, 768 to 3072."""
    x = torch.randn(128, 768, generator=torch.Generator().manual_seed(1))
    both = {"fp32": ("1x1", "2x1", "4x1", "16x4"), "int8": ("1x4", "4x4", "16x4")}
    yield from _rows(
        measure, "128x768x3072", nn.Sequential(nn.Linear(768, 3072)), x, _table(both, _RATIOS)
    )


def mlps(measure: Measure) -> Rows:
    """Whole stacks of linear layers."""
    few = {"fp32": ("4x1",), "int8": ("4x4", "16x4")}
    ffn = nn.Sequential(nn.Linear(768, 3072), nn.ReLU(), nn.Linear(3072, 768))
    x = torch.randn(128, 768)
    yield from _rows(measure, "FFN 128x768-3072-768", ffn, x, _table(few, (0.8, 0.85, 0.9)))
    top = [part for _ in range(3) for part in (nn.Linear(1024, 1024), nn.ReLU())]
    yield from _rows(
        measure,
        "MLP 512x3x1024",
        nn.Sequential(*top[:-1]),
        torch.randn(512, 1024),
        _table(few, (0.85,)),
    )


def single_tokens(measure: Measure) -> Rows:
    """Batch 1: 1024 to 4096."""
    x = torch.randn(1, 1024)
    few = {"fp32": ("1x1", "4x1", "16x4"), "int8": ("4x4", "16x4")}
    dense = nn.Sequential(nn.Linear(1024, 4096))
    yield from _rows(measure, "1x1024x4096", dense, x, _table(few, (0.8, 0.9)))


def convolutions(measure: Measure) -> Rows:
    """Shapes of ResNet-50 and MobileNet-v2: (name, in, out, size, kernel)."""
    shapes = [
        ("ResNet-50", 64, 256, 56, 1),
        ("ResNet-50", 512, 128, 28, 1),
        ("ResNet-50", 256, 1024, 14, 1),
        ("ResNet-50", 2048, 512, 7, 1),
        ("ResNet-50", 128, 128, 28, 3),
        ("ResNet-50", 256, 256, 14, 3),
        ("MobileNet-v2", 32, 192, 28, 1),
        ("MobileNet-v2", 192, 64, 14, 1),
        ("MobileNet-v2", 576, 96, 14, 1),
        ("MobileNet-v2", 320, 1280, 7, 1),
    ]
    for name, inputs, outputs, size, kernel in shapes:
        layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        dense, x = nn.Sequential(layer).eval(), torch.randn(1, inputs, size, size)
        wide: Any = copy.deepcopy(dense)
        wide = wide.to(memory_format=torch.channels_last)
        y = x.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            rivals = {
                "fp32": {"torch": lambda m=dense, x=x: m(x), "nhwc": lambda m=wide, y=y: m(y)}
            }
            for pattern in ("1x1", "4x1"):
                for ratio in (0.8, 0.9):
                    fast = compile_sparse(prune(dense, pattern, ratio), x, threads=measure.threads)
                    case = f"{name} {inputs}-{outputs} {size}x{size} {kernel}x{kernel}"
                    row = {"case": case, "dtype": "fp32", "pattern": pattern, "sparsity": ratio}
                    row["kernels"] = "; ".join(dict.fromkeys(fast.report()["kernel"]))
                    yield row | measure.against(lambda f=fast, x=x: f(x), rivals)  # type: ignore[misc, arg-type]


def bert(measure: Measure) -> Rows:
    """Two layers of BERT-base's encoder at sequence 128; its other parts stay PyTorch's."""
    from experiments.nets.bert import Bert

    model = Bert((2, 768, 12, 3072)).eval()
    words = torch.randint(0, 30522, (1, 128), generator=torch.Generator().manual_seed(0))
    dense = prune(model, "1x1", 0.0)
    rivals: dict[str, dict[str, Callable[[], object]]] = {"fp32": {"torch": lambda: dense(words)}}
    with torch.no_grad():
        alone = compile_sparse(dense, words, dtype="int8", calibration=[words])
        rivals["int8"] = {"torch (linear layers)": lambda: alone(words)}
        for dtype, pattern in (("fp32", "4x1"), ("int8", "4x4"), ("int8", "16x4")):
            for ratio in (0.8, 0.9):
                fast = compile_sparse(
                    prune(model, pattern, ratio),
                    words,
                    dtype=dtype,  # type: ignore[arg-type]
                    calibration=[words],
                    threads=measure.threads,
                )
                row: dict[str, Any] = {
                    "case": "BERT-base encoder, 2 layers, 128 words",
                    "dtype": dtype,
                }
                row |= {"pattern": pattern, "sparsity": ratio}
                row["kernels"] = "; ".join(dict.fromkeys(fast.report()["kernel"]))
                yield row | measure.against(lambda fast=fast: fast(words), rivals)  # type: ignore[misc]


CASES: dict[str, Callable[[Measure], Rows]] = {
    "layer": layers,
    "mlp": mlps,
    "gemv": single_tokens,
    "conv": convolutions,
    "bert": bert,
}
