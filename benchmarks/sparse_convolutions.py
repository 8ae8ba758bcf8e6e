"""Speed of sparse convolutions and of ResNet-20 over dense engines on this machine.

    OMP_NUM_THREADS=1 python -m benchmarks.sparse_convolutions [--only layer network] [--quick]

One thread, one process, pairs of processor times as in `sparse_inference`; rows that are in the
table already are not measured again. Layers are measured as `compile_sparse` makes them, against
the fastest dense float convolution (PyTorch in both layouts, oneDNN with its weight laid out
beforehand, ONNX Runtime), the dense INT8 one, and the same blocks by im2col. The first convolution
of ResNet-20 and its last layer stay dense; weights are random, pruned by magnitude.
"""

from __future__ import annotations

import argparse
import copy
import csv
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.convolution_page import COLUMNS, write_page

__all__ = ["main"]

_OUT = Path("experiments/results/sparse_inference")
_LAYERS = {  # (batch, in, out, size, stride), 3 x 3
    **{f"ResNet-20 {c}-{c} {s}x{s}": (8, c, c, s, 1) for c, s in ((16, 32), (32, 16), (64, 8))},
    "ResNet-20 32-64 16x16, stride 2": (8, 32, 64, 16, 2),
    **{f"VGG {c}-{c} 32x32": (1, c, c, 32, 1) for c in (64, 128, 256)},
    **{
        f"ResNet-50 {c}-{c} {s}x{s}": (1, c, c, s, 1)
        for c, s in ((64, 56), (128, 28), (256, 14), (512, 7))
    },
}
_PATTERNS = (("fp32", "1x1"), ("fp32", "4x1"), ("fp32", "16x4"), ("int8", "4x4"))
_RATIOS = (0.7, 0.8, 0.9, 0.95)


@dataclass(frozen=True, kw_only=True)
class _Row:
    part: str
    case: str
    batch: int
    dtype: str
    pattern: str
    sparsity: float

    def key(self) -> tuple[str, ...]:
        given = (self.part, self.case, self.batch, self.dtype, self.pattern)
        return (*map(str, given), f"{self.sparsity:g}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing; write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = ("layer", "network")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts, help="parts")
    parser.add_argument("--quick", action="store_true", help="4x1 and INT8 at 90 %% only")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of timings (default 5)")
    parser.add_argument("--out", type=Path, default=_OUT, help=f"folder (default {_OUT})")
    given = parser.parse_args(arguments)
    import torch

    from ws_learner.core import track

    torch.set_num_threads(1)
    table = given.out / "convolutions.csv"
    done = _measured(table)
    left = [row for row in _rows(given.only, quick=given.quick) if row.key() not in done]
    with torch.no_grad(), track("convolutions", total=len(left)) as progress:
        for row in left:
            measure = _layer if row.part == "layer" else _network
            _add(table, row, measure(row, given.rounds))
            progress.advance(note=f"{row.case} {row.dtype} {row.pattern} {row.sparsity:g}")
    write_page(given.out)
    return 0


def _rows(parts: Sequence[str], *, quick: bool) -> Iterator[_Row]:
    kinds = [(d, p) for d, p in _PATTERNS if not quick or p in ("4x1", "4x4")]
    ratios = (0.9,) if quick else _RATIOS
    for part, cases in (
        ("network", [("ResNet-20", batch) for batch in (8, 1, 64)]),
        ("layer", [(case, shape[0]) for case, shape in _LAYERS.items()]),
    ):
        for case, batch in cases if part in parts else []:
            for dtype, pattern in kinds:
                for ratio in ratios:
                    if part == "layer" or ratio in (0.8, 0.9):
                        yield _Row(
                            part=part,
                            case=case,
                            batch=batch,
                            dtype=dtype,
                            pattern=pattern,
                            sparsity=ratio,
                        )


def _measured(table: Path) -> set[tuple[str, ...]]:
    if not table.exists():
        return set()
    with table.open() as file:
        return {tuple(line[name] for name in COLUMNS[:6]) for line in csv.DictReader(file)}


def _add(table: Path, row: _Row, found: dict[str, Any]) -> None:
    table.parent.mkdir(parents=True, exist_ok=True)
    fresh = not table.exists()
    with table.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if fresh:
            writer.writerow(COLUMNS)
        texts = [found.get(name, "") for name in COLUMNS[6:]]
        writer.writerow([*row.key(), *(f"{x:.4g}" if isinstance(x, float) else x for x in texts)])


def _pruned(model: Any, row: _Row, *, keep: str = "") -> Any:
    """A copy with random weights, all but the convolution called `keep` pruned by magnitude."""
    import torch
    from torch import nn

    from ws_learner.pruning import parse_pattern

    units, model = parse_pattern(row.pattern), copy.deepcopy(model).eval()
    draw = torch.Generator().manual_seed(0)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and name != keep:
            weight = module.weight
            weight.normal_(0, weight[0].numel() ** -0.5, generator=draw)
            zeros = units.feasible(tuple(weight.shape), round(row.sparsity * weight.numel()))
            weight.mul_(units.mask(weight.abs(), zeros))
    return model


@functools.lru_cache(maxsize=1)
def _dense(case: str) -> tuple[Any, Any, Any, str, Any]:
    """The dense layer, an input, PyTorch's run, and the fastest engine's name and run."""
    import torch
    from torch import nn

    from benchmarks.sparse_baselines import fp32_baselines
    from benchmarks.sparse_measure import Timing
    from ws_learner.deploy import find_sites, layer_data

    batch, inputs, outputs, size, stride = _LAYERS[case]
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, padding=1)).eval()
    x = torch.randn(batch, inputs, size, size)
    wide: Any = copy.deepcopy(dense)
    wide, last = (y.to(memory_format=torch.channels_last) for y in (wide, x))
    floats = {"torch": lambda: dense(x), "torch nhwc": lambda: wide(last)}
    packed = layer_data(find_sites(dense)[0], None).rival("dense onednn")
    if packed is not None:
        floats["oneDNN"] = lambda: packed(x)
    floats |= fp32_baselines(dense, x, engines_only=True)
    return dense, x, floats["torch"], *Timing(rounds=5, threads=1).best(floats)


def _layer(row: _Row, rounds: int) -> dict[str, Any]:
    from benchmarks.sparse_measure import Timing
    from ws_learner.deploy import compile_sparse, find_sites, layer_data, observers

    dense, x, torch_run, name, best = _dense(row.case)
    model = _pruned(dense, row)
    fast = compile_sparse(model, x, dtype=row.dtype, calibration=[x])  # type: ignore[arg-type]
    sites = find_sites(model)
    data = layer_data(sites[0], observers(model, sites, [x], "minmax")["0"])
    assert data.geometry is not None
    time = Timing(rounds=rounds, threads=1)
    choice = fast.choices["0"]
    run = lambda: fast(x)  # noqa: E731
    found: dict[str, Any] = {"kernel": choice.kernel, "ms": 1e3 * time.seconds(run)}
    found |= {"x_torch": time.ratio(torch_run, run).median, "best_dense": name}
    found |= {"x_dense": time.ratio(best, run).median}
    whole = data.rival("dense int8") if row.dtype == "int8" else None
    if whole is not None:
        found["x_int8"] = time.ratio(lambda: whole(x), run).median
    if choice.spec is not None:
        walk, old = data.geometry, data.kernel(replace(choice.spec, layout="channels"))
        found["x_im2col"] = time.ratio(lambda: old.channels(walk.columns(x)), run).median
    return found


def _network(row: _Row, rounds: int) -> dict[str, Any]:
    import torch

    from benchmarks.sparse_baselines import fp32_baselines
    from benchmarks.sparse_measure import Timing
    from experiments.models.resnet_cifar import resnet_cifar
    from ws_learner.deploy import compile_sparse

    torch.manual_seed(0)
    model = _pruned(resnet_cifar(20), row, keep="conv1")
    x = torch.randn(row.batch, 3, 32, 32)
    fast = compile_sparse(model, x, dtype=row.dtype, calibration=[x])  # type: ignore[arg-type]
    time = Timing(rounds=rounds, threads=1)
    run = lambda: fast(x)  # noqa: E731
    found: dict[str, Any] = {
        "kernel": "; ".join(dict.fromkeys(fast.report()["kernel"])),
        "ms": 1e3 * time.seconds(run),
        "x_torch": time.ratio(lambda: model(x), run).median,
    }
    engines = fp32_baselines(model, x, engines_only=True)
    if engines:
        name, best = time.best(engines)
        found |= {"best_dense": name, "x_dense": time.ratio(best, run).median}
    return found


if __name__ == "__main__":
    raise SystemExit(main())
