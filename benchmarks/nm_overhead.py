"""Overhead of N:M training: sparse over dense training step, on layers of a ViT-small.

    python -m benchmarks.nm_overhead [--method srste] [--pattern 2:4] [--depth 2]

Two copies of a ViT with the widths of ViT-small/16 (384, six heads, 197 tokens) take turns in one
process on the same synthetic batch of 32 images; the sparse one has its MLPs under the pattern. On
a CPU 2 of the 12 blocks are built by default: all blocks are alike, and so is the ratio. On a GPU,
where masks of all blocks are computed as one, it is all 12, and ten steps are timed together, so
that what a training waits for is counted and nothing else. Prints the median of the pairwise
ratios. Required: at most 1.25 on a CPU and 1.10 on a GPU.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.paired import PairedResult, paired

if TYPE_CHECKING:
    import torch

    from ws_learner.pruning import NMConfig

__all__ = ["main", "measure", "training_step"]

LIMITS = {"cpu": 1.25, "cuda": 1.10}
DEPTHS = {"cpu": 2, "cuda": 12}
STEPS = {"cpu": 1, "cuda": 10}


def _config(method: str, pattern: str) -> NMConfig:
    """Sparse from the first step of a training so long that nothing ends while it is timed."""
    from ws_learner.pruning import MdgfConfig, SdgfConfig, SrSteConfig, parse_pattern

    common: dict[str, Any] = {"pattern": parse_pattern(f"{pattern}@ff"), "dense": 0.0}
    kinds = {"srste": SrSteConfig, "mdgf": MdgfConfig, "sdgf": SdgfConfig}
    config: NMConfig = kinds[method](**common)
    return config


def training_step(
    config: NMConfig | None, device: torch.device, *, depth: int, batch: int, bf16: bool
) -> Callable[[], None]:
    """Make a function that trains by one step on a fixed synthetic batch.

    Args:
        config: The method; None trains the dense network.
        device: Where to train.
        depth: Blocks.
        batch: Images.
        bf16: Forward pass under bfloat16 autocast.
    """
    import torch
    from torch import nn

    from experiments.models.vit import Vit
    from ws_learner.pruning import Sparsifier

    torch.manual_seed(0)
    model = Vit(image=224, patch=16, width=384, depth=depth, heads=6, num_classes=1000).to(device)
    inputs = torch.randn(batch, 3, 224, 224, device=device)
    targets = torch.randint(1000, (batch,), device=device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)  # as `make_optimizer`
    if config is not None:
        zeros = config.targets(model)
        sparsifier = Sparsifier(model, config, zeros=zeros, total_steps=1_000_000)
        sparsifier.attach(optimizer)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            loss = nn.functional.cross_entropy(model(inputs), targets)
        torch.autograd.backward(loss)
        optimizer.step()

    return step


def _several(step: Callable[[], None], count: int) -> Callable[[], None]:
    def steps() -> None:
        for _ in range(count):
            step()

    return steps


def measure(
    *, method: str, pattern: str, depth: int, batch: int, rounds: int, device: str
) -> dict[str, object]:
    """Measure the ratio; see the module."""
    import torch

    from ws_learner.core import choose_device

    place, bf16 = torch.device(device), choose_device("auto", device).bf16
    sync = torch.cuda.synchronize if device == "cuda" else None
    options: dict[str, Any] = {"depth": depth, "batch": batch, "bf16": bf16}
    sparse = _several(training_step(_config(method, pattern), place, **options), STEPS[device])
    dense = _several(training_step(None, place, **options), STEPS[device])
    result: PairedResult = paired(sparse, dense, rounds=rounds, warmup=1, synchronize=sync)
    found = {"median": result.median, "low": result.low, "high": result.high}
    about = {"device": device, "method": method, "pattern": pattern, "rounds": rounds}
    return about | options | found | {"limit": LIMITS[device]}


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and print it; returns 1 when a step costs more than the limit."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--method", choices=["srste", "mdgf", "sdgf"], default="srste")
    parser.add_argument("--pattern", default="2:4", help="of the MLPs (default 2:4)")
    parser.add_argument("--depth", type=int, help="blocks (default 2 on a CPU, 12 on a GPU)")
    parser.add_argument("--batch", type=int, default=32, help="images a step (default 32)")
    parser.add_argument("--rounds", type=int, default=8, help="pairs of steps (default 8)")
    parser.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    options = parser.parse_args(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = measure(
        method=options.method,
        pattern=options.pattern,
        depth=options.depth or DEPTHS[device],
        batch=options.batch,
        rounds=options.rounds,
        device=device,
    )
    print(
        f"{options.method} {options.pattern}: {found['median']:.3f}x of dense (quartiles "
        f"{found['low']:.3f} to {found['high']:.3f}), limit {found['limit']}"
    )
    if options.out:
        from ws_learner.core import write_json

        write_json(options.out, found)
    return int(float(str(found["median"])) > float(str(found["limit"])))


if __name__ == "__main__":
    raise SystemExit(main())
