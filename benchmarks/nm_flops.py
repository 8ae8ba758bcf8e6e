"""FLOPs of a transformer's forward pass and of its whole sparse training.

Two operations per multiply-accumulate. Zeros are counted as saved, which no general hardware does
for every pattern. In training the gradient by a pruned weight is needed as long as it may come
back, so the third of the work that makes weight gradients stays dense.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from envs import LayerRow

__all__ = ["EncoderShape", "forward_flops", "training_flops"]


@dataclass(frozen=True, kw_only=True)
class EncoderShape:
    """The blocks of a transformer encoder, without embeddings, norms and head.

    Attributes:
        depth: Number of blocks.
        width: Width of a token.
        hidden: Width of the MLPs.
        tokens: Length of the sequence.
    """

    depth: int
    width: int
    hidden: int
    tokens: int

    @property
    def projection(self) -> int:
        """Operations of q, k, v or o in all blocks."""
        return 2 * self.depth * self.tokens * self.width**2

    @property
    def products(self) -> int:
        """Operations of the logits and of the weighted sums, which have no weights."""
        return 4 * self.depth * self.tokens**2 * self.width

    @property
    def feed_forward(self) -> int:
        """Operations of both layers of all MLPs."""
        return 4 * self.depth * self.tokens * self.width * self.hidden

    def flops(self, density: Mapping[str, float] | None = None) -> float:
        """Operations of one example's forward pass.

        Args:
            density: Share of weights kept by role: ff, q, k, v, o; 1 where not given.
        """
        kept = dict(density or {})
        attending = sum(kept.get(role, 1.0) for role in ("q", "k", "v", "o"))
        dense = self.products + attending * self.projection
        return dense + kept.get("ff", 1.0) * self.feed_forward

    def weights(self, density: Mapping[str, float] | None = None) -> float:
        """Nonzero weights of all projections and MLPs; biases are not counted."""
        kept = dict(density or {})
        attending = sum(kept.get(role, 1.0) for role in ("q", "k", "v", "o"))
        own = attending * self.width**2 + kept.get("ff", 1.0) * 2 * self.width * self.hidden
        return self.depth * own


def forward_flops(model: nn.Module, inputs: Tensor) -> int:
    """Operations of a dense forward pass per example, attention included, as torch counts them."""
    counter = FlopCounterMode(display=False)
    training = model.training
    model.eval()
    with counter, torch.no_grad():
        model(inputs)
    model.train(training)
    return round(counter.get_total_flops() / len(inputs))


def training_flops(
    layers: Sequence[LayerRow],
    planned: Callable[[int], Mapping[str, int]],
    *,
    forward: int,
    steps: int,
    batch: int,
) -> float:
    """Operations of a whole training.

    Args:
        layers: The layer table.
        planned: Zeros of each layer by name at a step, never fewer at a later one; e.g. the
            `planned_zeros` of a method.
        forward: Operations of one example's dense forward pass, see `forward_flops`.
        steps: Optimizer steps.
        batch: Examples per step.
    """

    def saved(step: int) -> float:
        zeros = planned(step)
        return sum(2 * row.macs * zeros.get(row.name, 0) / row.weights for row in layers)

    def total(first: int, last: int, low: float, high: float) -> float:
        """Sum of the savings over [first, last]; the values at both ends are known."""
        if last - first < 2 or low == high:
            return low * (last - first) + high
        middle = (first + last) // 2
        centre = saved(middle)
        return total(first, middle, low, centre) - centre + total(middle, last, centre, high)

    if steps < 1:
        return 0.0
    skipped = total(0, steps - 1, saved(0), saved(steps - 1)) if steps > 1 else saved(0)
    return batch * (3.0 * forward * steps - 2.0 * skipped)  # weight gradients stay dense
