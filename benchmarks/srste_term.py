"""Place of SR-STE's term under AdamW: a small ViT on 8 x 8 digits, 1:8 in its MLPs.

    python -m benchmarks.srste_term [--steps 200] [--seeds 4]

Prints for each setting the mean test accuracy, the share of mask positions that change per step in
the second half, and the size of pruned relative to kept weights at the end. Needs scikit-learn.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

__all__ = ["Outcome", "main", "train"]

SETTINGS: tuple[tuple[str, float], ...] = (
    ("gradient", 0.0),
    ("gradient", 2e-4),
    ("gradient", 2e-2),
    ("decoupled", 2e-4),
    ("decoupled", 2.0),
    ("decoupled", 20.0),
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Results of one training.

    Attributes:
        accuracy: On the test images, in [0, 1].
        change: Mean share of mask positions that change per step in the second half.
        pruned: Mean magnitude of latent pruned weights over that of kept ones.
    """

    accuracy: float
    change: float
    pruned: float


def train(term: str, weight: float, *, seed: int, steps: int) -> Outcome:
    """Train from fresh weights under AdamW at a rate of 3e-3, decay 0.05.

    Args:
        term: `gradient` or `decoupled`.
        weight: lambda.
        seed: Weights and order of the images.
        steps: Optimizer steps, of 100 images each.
    """
    import torch
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]
    from torch import nn

    from experiments.models.vit import vit
    from ws_learner.pruning import Sparsifier, SrSteConfig, parse_pattern

    digits = load_digits()
    images = torch.from_numpy(digits.images).float().div(8).sub(1)[:, None].expand(-1, 3, -1, -1)
    targets = torch.from_numpy(digits.target)
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
    held, used = order[:500], order[500:]
    torch.manual_seed(seed)
    model = vit(image=8, patch=2, width=32, depth=2, heads=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    config = SrSteConfig(
        pattern=parse_pattern("1:8@ff"),
        weight=weight,
        term="decoupled" if term == "decoupled" else "gradient",
    )
    sparsifier = Sparsifier(model, config, zeros=config.targets(model), total_steps=steps)
    sparsifier.attach(optimizer)
    changes, before = [], {name: mask.clone() for name, mask in sparsifier.masks.items()}
    for step in range(steps):
        batch = used[torch.randint(len(used), (100,))]
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images[batch]), targets[batch])
        torch.autograd.backward(loss)
        optimizer.step()
        now = {name: mask.clone() for name, mask in sparsifier.masks.items()}
        if step >= steps // 2:
            changes.append(np.mean([float((now[n] != before[n]).float().mean()) for n in now]))
        before = now
    shadow, masks = sparsifier.state_dict(), sparsifier.masks
    ratios = [
        float(shadow[f"latent.{n}"][~m].abs().mean() / shadow[f"latent.{n}"][m].abs().mean())
        for n, m in masks.items()
    ]
    sparsifier.finalize().eval()
    with torch.no_grad():
        right = model(images[held]).argmax(1) == targets[held]
    return Outcome(
        accuracy=float(right.float().mean()),
        change=float(np.mean(changes)),
        pruned=float(np.mean(ratios)),
    )


def main(arguments: list[str] | None = None) -> int:
    """Train all settings and print a table."""
    from benchmarks.nm_report import mean_and_interval

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=200, help="of each training (default 200)")
    parser.add_argument("--seeds", type=int, default=4, help="trainings of a setting (default 4)")
    options = parser.parse_args(arguments)
    print("| term | lambda | test accuracy | less lambda 0, paired | mask change | pruned / kept |")
    print("|---|---:|---:|---:|---:|---:|")
    plain: list[float] = []
    for term, weight in SETTINGS:
        found = [train(term, weight, seed=s, steps=options.steps) for s in range(options.seeds)]
        accuracy = [100 * outcome.accuracy for outcome in found]
        plain = plain or accuracy
        mean, half = mean_and_interval([a - b for a, b in zip(accuracy, plain, strict=True)])
        print(
            f"| {term} | {weight:g} | {np.mean(accuracy):.2f} | {mean:+.2f} ± {half:.2f} | "
            f"{np.mean([o.change for o in found]):.4%} | "
            f"{np.mean([o.pruned for o in found]):.3f} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
