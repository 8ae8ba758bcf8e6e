"""What does gradual pruning cost? A sparse training step over a dense one, on ResNet-20.

    python -m experiments.benchmarks.mask_overhead [--rounds 30] [--out FILE]

Two copies of the network take turns in one process on the same synthetic batch. Prints the median
of the pairwise ratios: without a mask update, with one in every step, and with one in as many
steps as the default asks for. Required: at most 1.05.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.benchmarks.paired import PairedResult, paired

if TYPE_CHECKING:
    import torch

__all__ = ["main", "measure", "training_step"]

LIMIT = 1.05
RATIO = 0.75


def training_step(
    batch: int, device: torch.device, *, mask_update_step: int | None
) -> Callable[[], None]:
    """Make a function that trains ResNet-20 by one step on a fixed synthetic batch.

    Args:
        batch: Examples in the batch.
        device: Where to train.
        mask_update_step: Steps between mask updates; None trains the dense network.
    """
    import torch
    from torch import nn

    from experiments.nets.resnet_cifar import resnet_cifar
    from ws_learner.methods.gradual import GradualConfig
    from ws_learner.sparsifier import Sparsifier

    torch.manual_seed(0)
    model = resnet_cifar(20).to(device)
    inputs = torch.randn(batch, 3, 32, 32, device=device)
    targets = torch.randint(10, (batch,), device=device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=2e-4)
    if mask_update_step:
        config = GradualConfig(
            iter_ratio_beg=0.0, iter_ratio_end=1.0, mask_update_step=mask_update_step
        )
        ratios = {name: RATIO for name, p in model.named_parameters() if p.ndim > 1}
        # Half way up the ramp from the first step on: a frequent update meets a real plan.
        sparsifier = Sparsifier(model, config, ratios=ratios, total_steps=1_000_000)
        sparsifier.load_state_dict(sparsifier.state_dict() | {"step": torch.tensor(500_000 - 1)})
        sparsifier.attach(optimizer)

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(model(inputs), targets))
        optimizer.step()

    return step


def measure(*, rounds: int, batch: int) -> dict[str, object]:
    """Measure the three ratios; see the module."""
    import torch

    from ws_learner.methods.gradual import GradualConfig

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sync = torch.cuda.synchronize if device.type == "cuda" else None

    def over_dense(mask_update_step: int) -> PairedResult:
        sparse = training_step(batch, device, mask_update_step=mask_update_step)
        dense = training_step(batch, device, mask_update_step=None)
        return paired(sparse, dense, rounds=rounds, warmup=3, synchronize=sync)

    every = GradualConfig().mask_update_step
    plain, update = over_dense(250_000), over_dense(1)
    amortised = ((every - 1) * plain.median + update.median) / every
    return {
        "device": device.type,
        "batch": batch,
        "rounds": rounds,
        "without_update": _row(plain),
        "update_every_step": _row(update),
        "mask_update_step": every,
        "amortised": amortised,
        "limit": LIMIT,
    }


def _row(result: PairedResult) -> dict[str, float]:
    return {"median": result.median, "low": result.low, "high": result.high}


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and print it; returns 1 when a step costs more than the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=30, help="pairs of steps (default 30)")
    parser.add_argument("--batch", type=int, default=128, help="examples a step (default 128)")
    parser.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    options = parser.parse_args(arguments)
    found = measure(rounds=options.rounds, batch=options.batch)
    for name in ("without_update", "update_every_step"):
        row = found[name]
        assert isinstance(row, dict)
        median, low, high = row["median"], row["low"], row["high"]
        print(f"{name:18} {median:.3f}x of dense (quartiles {low:.3f} to {high:.3f})")
    print(f"{'amortised':18} {found['amortised']:.3f}x, an update each {found['mask_update_step']}")
    if options.out:
        from ws_learner.files import write_json

        write_json(options.out, found)
    return int(float(str(found["amortised"])) > LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
