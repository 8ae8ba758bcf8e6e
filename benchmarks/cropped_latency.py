"""Latency of a cropped MiniLM: half of all heads and neurons pruned by magnitude, untrained.

    python -m benchmarks.cropped_latency [--ratio 0.5] [--out FILE]

Dense and cropped network take turns on the same sentences of TREC's test split, one and 32 at a
time; prints the medians. Speed does not depend on the weights, so the pretrained ones are used.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["main", "measure"]


def measure(ratio: float, folder: Path) -> dict[str, Any]:
    """Crop and time; see the module.

    Args:
        ratio: Share of the encoder's weights that goes, in whole units.
        folder: Where the cropped network is left.
    """
    import torch

    from experiments.bert_at_trec import Options, build
    from ws_learner.deploy import crop_run
    from ws_learner.pruning import build_pattern_plan, find_groups, parse_pattern

    experiment = build(Options(), seed=0)
    model = experiment.model
    names = [member.weight for group in find_groups(model) for member in group.members]
    plan = build_pattern_plan(model, names, pattern=parse_pattern("units"))
    weights = {name: model.get_parameter(name) for name in names}
    zeros = plan.snap({name: round(ratio * weight.numel()) for name, weight in weights.items()})
    masks = plan.masks({name: w.detach().abs() for name, w in weights.items()}, zeros)
    with torch.no_grad():
        for name, mask in masks.items():
            weights[name].mul_(mask)
    inputs, _ = next(experiment.data.test.batches(32))
    return {"ratio": ratio, **crop_run(model, inputs, folder)}


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and print it."""
    from ws_learner.core import write_json

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--ratio", type=float, default=0.5, help="share removed (default 0.5)")
    parser.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options.ratio, Path(folder))
    for name, value in found.items():
        print(f"{name:24} {value}")
    if options.out:
        write_json(options.out, found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
