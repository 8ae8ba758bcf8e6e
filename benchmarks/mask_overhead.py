"""Overhead of gradual pruning: sparse over dense training step, on ResNet-20 or BERT.

    python -m benchmarks.mask_overhead [--rounds 30] [--out FILE]
    python -m benchmarks.mask_overhead --network minilm --pattern 4x1 --batch 32

Two copies of the network take turns in one process on the same synthetic batch. Prints the median
of the pairwise ratios: without a mask update, with one in every step, and with one in as many
steps as the default asks for. Required: at most 1.05.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.paired import PairedResult, paired

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from ws_learner.config import CriterionName

__all__ = ["main", "measure", "training_step"]

LIMIT = 1.05
WORDS = 16  # word pieces of a sentence: the mean of TREC is 13


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is trained.

    Attributes:
        network: `resnet20`, or `minilm`: BERT of MiniLM's size, random weights, AdamW.
        pattern: Spelling of what is pruned together.
        criterion: What makes a weight's score.
        ratio: Share of zeros in the end.
        batch: Examples in a step.
        bf16: Train under bfloat16 autocast.
    """

    network: str = "resnet20"
    pattern: str = "unstructured"
    criterion: CriterionName = "magnitude"
    ratio: float = 0.75
    batch: int = 128
    bf16: bool = False


def _resnet20(work: Work) -> tuple[nn.Module, Tensor, Optimizer, list[str]]:
    import torch

    from experiments.models.resnet_cifar import resnet_cifar

    model = resnet_cifar(20)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=2e-4)
    names = [name for name, p in model.named_parameters() if p.ndim > 1]
    return model, torch.randn(work.batch, 3, 32, 32), optimizer, names


def _minilm(work: Work) -> tuple[nn.Module, Tensor, Optimizer, list[str]]:
    import torch

    from experiments.models.sentence_bert import build_classifier

    model = build_classifier((6, 384, 12, 1536), labels=10)
    model.bert.embeddings.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    names = [n for n, p in model.named_parameters() if "encoder" in n and p.ndim > 1]
    inputs = torch.randint(1_000, 30_000, (work.batch, WORDS))
    return model, inputs, torch.optim.AdamW(trained, lr=1e-5, fused=True), names


def training_step(
    work: Work, device: torch.device, *, mask_update_step: int | None
) -> Callable[[], None]:
    """Make a function that trains the network by one step on a fixed synthetic batch.

    Args:
        work: What is trained.
        device: Where to train.
        mask_update_step: Steps between mask updates; None trains the dense network.
    """
    import torch
    from torch import nn

    from ws_learner.pruning import GradualConfig, Sparsifier, parse_pattern

    torch.manual_seed(0)
    make = {"resnet20": _resnet20, "minilm": _minilm}[work.network]
    model, inputs, optimizer, names = make(work)
    model, inputs = model.to(device).train(), inputs.to(device)
    targets = torch.randint(10, (work.batch,), device=device)
    if mask_update_step:
        config = GradualConfig(
            iter_ratio_beg=0.0,
            iter_ratio_end=1.0,
            mask_update_step=mask_update_step,
            pattern=parse_pattern(work.pattern),
            criterion=work.criterion,
        )
        ratios = dict.fromkeys(names, work.ratio)
        # Half way up the ramp from the first step on: a frequent update meets a real plan.
        sparsifier = Sparsifier(model, config, ratios=ratios, total_steps=1_000_000)
        state = sparsifier.state_dict() | {"step": torch.tensor(500_000 - 1)}
        del state["planned"]  # at step 0
        sparsifier.load_state_dict(state)
        sparsifier.attach(optimizer)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=work.bf16):
            loss = nn.functional.cross_entropy(model(inputs), targets)
        torch.autograd.backward(loss)
        optimizer.step()

    return step


def measure(work: Work, *, rounds: int, processor: bool = False) -> dict[str, object]:
    """Measure the three ratios; see the module."""
    import torch

    from ws_learner.pruning import USUAL_INTERVAL

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sync = torch.cuda.synchronize if device.type == "cuda" else None

    clock = time.thread_time if processor else time.perf_counter

    def over_dense(mask_update_step: int) -> PairedResult:
        sparse = training_step(work, device, mask_update_step=mask_update_step)
        dense = training_step(work, device, mask_update_step=None)
        return paired(sparse, dense, rounds=rounds, warmup=3, synchronize=sync, clock=clock)

    every = USUAL_INTERVAL
    plain, update = over_dense(250_000), over_dense(1)
    amortised = ((every - 1) * plain.median + update.median) / every
    return {
        "device": device.type,
        **asdict(work),
        "rounds": rounds,
        "clock": "processor" if processor else "wall",
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
    parser.add_argument("--network", choices=("resnet20", "minilm"), default="resnet20")
    parser.add_argument("--pattern", default="unstructured", help="as --ws_pattern")
    parser.add_argument("--criterion", default="magnitude", help="as --ws_criterion")
    parser.add_argument("--ratio", type=float, default=0.75, help="share of zeros (default 0.75)")
    parser.add_argument("--bf16", action="store_true", help="bfloat16 autocast, as in training")
    parser.add_argument(
        "--processor", action="store_true", help="by the processor's clock, on a shared machine"
    )
    parser.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    options = parser.parse_args(arguments)
    settings = {item.name: getattr(options, item.name) for item in fields(Work)}
    found = measure(Work(**settings), rounds=options.rounds, processor=options.processor)
    for name in ("without_update", "update_every_step"):
        row = found[name]
        assert isinstance(row, dict)
        median, low, high = row["median"], row["low"], row["high"]
        print(f"{name:18} {median:.3f}x of dense (quartiles {low:.3f} to {high:.3f})")
    print(f"{'amortised':18} {found['amortised']:.3f}x, an update each {found['mask_update_step']}")
    if options.out:
        from ws_learner.core import write_json

        write_json(options.out, found)
    return int(float(str(found["amortised"])) > LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
