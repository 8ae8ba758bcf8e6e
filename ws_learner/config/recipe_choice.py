"""A training recipe for a network and data of which only the sizes are known. Free of torch."""

from __future__ import annotations

import math

from ws_learner.config.recipe import Recipe

__all__ = ["usual_recipe"]

_STEPS, _FEWEST, _MOST = 1500, 2, 40
_RATE, _WEIGHTS = 3e-3, 1e5


def usual_recipe(
    *,
    examples: int,
    weights: int,
    epochs: float | None = None,
    batch_size: int | None = None,
    lrn_rate: float | None = None,
) -> Recipe:
    """A recipe that takes a trained network to its sparsity and lets it recover.

    AdamW along a cosine, after a rise over the first 5 % of the steps. The peak rate is 3e-3 up
    to 100,000 weights and falls with the root of their number above: 1e-3 for a million, 1.9e-4
    for a ResNet-50 (25 million), 9e-5 for BERT-base (110 million), near the rates at which such
    networks are fine-tuned. About 1,500 steps, but 2 to 40 epochs: small data are read more often.

    Args:
        examples: Of the training split.
        weights: Parameters of the network.
        epochs: Passes over the training split; None chooses.
        batch_size: Examples per step; None: 64; of fewer than 512 examples an eighth,
            at least 16.
        lrn_rate: Peak learning rate; None chooses.

    Raises:
        UserError: A number is not above 0.

    Example:
        >>> usual_recipe(examples=1000, weights=5000).nb_epochs
        40
        >>> recipe = usual_recipe(examples=50_000, weights=25_000_000)
        >>> recipe.nb_epochs, recipe.lrn_rate
        (2, 0.00019)
    """
    if batch_size is None:
        batch_size = max(1, min(64, max(16, examples // 8), examples))
    if epochs is None:
        per_epoch = max(1, examples // max(1, batch_size))
        epochs = min(_MOST, max(_FEWEST, math.ceil(_STEPS / per_epoch)))
    if lrn_rate is None:
        lrn_rate = float(f"{_RATE * min(1.0, math.sqrt(_WEIGHTS / max(1, weights))):.2g}")
    return Recipe(
        nb_epochs=epochs, batch_size=batch_size, optimizer="adamw", lrn_rate=lrn_rate, warmup=0.05
    )
