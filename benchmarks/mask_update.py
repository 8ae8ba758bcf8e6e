"""Cost of one mask update for a network of BERT-base's size.

    python -m benchmarks.mask_update [--patterns 4x1 2:4] [--rounds 3] [--out FILE]

Twelve layers of random weights with the shapes of BERT-base, 85 million in all, take one update of
gradual pruning by magnitude each round: scores, pooling, selection, new masks and masked weights.
Prints the shortest wall and processor time over the rounds. Target: below one second.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__all__ = ["bert_sized", "main", "measure"]

LIMIT = 1.0
PATTERNS = ("unstructured", "4x1")


def bert_sized(layers: int = 12, width: int = 768) -> nn.Module:
    """The weight matrices of BERT-base's encoder: four of attention, two of feed-forward."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    shapes = [(width, width)] * 4 + [(4 * width, width), (width, 4 * width)]
    return nn.ParameterList(
        [nn.Parameter(0.02 * torch.randn(s)) for _ in range(layers) for s in shapes]
    )


def measure(pattern: str, *, ratio: float, rounds: int) -> dict[str, float]:
    """Shortest seconds of one update, by the wall clock and by the processor's.

    Args:
        pattern: Spelling.
        ratio: Share of zeros of every layer.
        rounds: Updates to time.
    """
    import torch

    from ws_learner.pruning import GradualConfig, Sparsifier, parse_pattern

    model = bert_sized()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    config = GradualConfig(
        pattern=parse_pattern(pattern), iter_ratio_beg=0.0, iter_ratio_end=1.0, mask_update_step=1
    )
    ratios = {name: ratio for name, _ in model.named_parameters()}
    sparsifier = Sparsifier(model, config, ratios=ratios, total_steps=2 * (rounds + 2))
    sparsifier.attach(optimizer)
    optimizer.step()  # memory is touched for the first time
    wall, processor = [], []
    for _ in range(rounds):
        begun, used = time.perf_counter(), time.process_time()
        optimizer.step()  # without gradients: nothing but the update
        wall.append(time.perf_counter() - begun)
        processor.append(time.process_time() - used)
    return {"wall": min(wall), "processor": min(processor)}


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and print it; returns 1 when an update takes longer than the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--patterns", nargs="+", default=list(PATTERNS), help="spellings")
    parser.add_argument("--ratio", type=float, default=0.9, help="share of zeros (default 0.9)")
    parser.add_argument("--rounds", type=int, default=3, help="updates (default 3)")
    parser.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    options = parser.parse_args(arguments)
    found = {
        name: measure(name, ratio=options.ratio, rounds=options.rounds) for name in options.patterns
    }
    for name, row in found.items():
        print(f"{name:14} {row['wall']:.2f} s by the clock, {row['processor']:.2f} s of processor")
    if options.out:
        from ws_learner.core import write_json

        write_json(options.out, found)
    return int(any(row["processor"] > LIMIT for row in found.values()))


if __name__ == "__main__":
    raise SystemExit(main())
