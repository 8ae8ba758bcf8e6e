"""Time of an epoch of the dense recipe of ResNet-20, over one with images of full size.

    python -m benchmarks.dense_epoch [--rounds 12] [--steps 20]

Both train the same network by the product's own loop in one process, on the same random images;
`--steps` steps stand for the whole recipe, with small images for its first shares. Prints the
median of the pairwise ratios, below 1 where the recipe's epoch is cheaper.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

from benchmarks.paired import PairedResult, paired

__all__ = ["main", "measure"]


def measure(*, rounds: int, steps: int, batch: int) -> PairedResult:
    """Time `steps` training steps of the recipe over as many with full images."""
    from experiments.resnet_at_cifar10 import DENSE

    small = replace(DENSE, nb_epochs=1, batch_size=batch)
    full = replace(small, progressive_sizes=())
    return paired(_epoch(small, steps), _epoch(full, steps), rounds=rounds)


def _epoch(recipe: object, steps: int) -> Callable[[], None]:
    import numpy as np
    from torch import nn

    from experiments.models.resnet_cifar import resnet_cifar
    from ws_learner import Recipe
    from ws_learner.core import choose_device
    from ws_learner.data import ArraySplit
    from ws_learner.training import Trainer

    assert isinstance(recipe, Recipe)
    count, rng = steps * recipe.batch_size, np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    split = ArraySplit(images, rng.integers(0, 10, count), mean=(0.5,) * 3, std=(0.25,) * 3)
    trainer = Trainer(
        model=resnet_cifar(20),
        split=split,
        recipe=recipe,
        criterion=lambda outputs, targets, inputs: nn.functional.cross_entropy(outputs, targets),
        compute=choose_device(),
        seed=0,
    )

    def train() -> None:
        trainer.step = 0
        trainer.run()

    return train


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and print its ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=12, help="pairs of epochs (default 12)")
    parser.add_argument("--steps", type=int, default=20, help="steps of an epoch (default 20)")
    parser.add_argument("--batch", type=int, default=128, help="images a step (default 128)")
    options = parser.parse_args(arguments)
    ratio = measure(rounds=options.rounds, steps=options.steps, batch=options.batch)
    print(f"an epoch of the recipe / one with full images: {ratio}; {1 / ratio.median:.2f}x faster")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
