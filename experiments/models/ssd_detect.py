"""Detection with SSD (Liu et al. 2016, section 2.2), and average precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.models.ssd_boxes import decode_boxes, default_boxes, iou
from ws_learner.core import track
from ws_learner.data import Annotated, average_precision

if TYPE_CHECKING:
    from ws_learner.core import ComputeDevice
    from ws_learner.data import Split

__all__ = ["detect", "nms", "precision_of"]

_OVERLAP = 0.5


def nms(boxes: Tensor, scores: Tensor, *, overlap: float = _OVERLAP) -> Tensor:
    """Positions, best first, of (N, 4) corners that no better box overlaps by more."""
    order = scores.argsort(descending=True, stable=True)
    free = ~(iou(boxes[order], boxes[order]) > overlap).numpy()
    kept = np.ones(len(order), dtype=bool)
    for place in range(len(order)):
        if kept[place]:
            kept[place + 1 :] &= free[place, place + 1 :]
    return order[torch.from_numpy(kept)]


def detect(
    output: Tensor, *, least: float = 0.05, most: int = 200
) -> tuple[Tensor, Tensor, Tensor]:
    """Objects of one image; boxes of different classes do not suppress each other.

    Args:
        output: (4 + C, N), see `multibox_loss`.
        least: Smallest probability.
        most: Boxes of a class before suppression, and of the image.

    Returns:
        (K, 4) corners within [0, 1], (K,) classes from 1, (K,) probabilities, best first.
    """
    output = output.float().cpu()
    boxes = decode_boxes(output[:4].T, default_boxes()).clamp(0, 1)
    found = []
    for number, scores in enumerate(output[4:].softmax(0)[1:], 1):
        best = (scores > least).nonzero()[:, 0]
        best = best[scores[best].argsort(descending=True, stable=True)[:most]]
        kept = best[nms(boxes[best], scores[best])]
        found.append((boxes[kept], torch.full((len(kept),), number), scores[kept]))
    corners, classes, scores = (torch.cat(list(part)) for part in zip(*found, strict=True))
    order = scores.argsort(descending=True, stable=True)[:most]
    return corners[order], classes[order], scores[order]


def precision_of(
    model: nn.Module, split: Split, truth: Annotated, compute: ComputeDevice
) -> dict[str, float]:
    """Average precision of a network on the images of `truth`, which `split` reads in order."""
    found: list[dict[str, Any]] = []
    outputs = (row for x, _ in split.batches(32) for row in model(compute.place(x)))
    images = zip(truth.keys, truth.sizes, outputs, strict=True)
    with track("detecting", total=len(truth.keys)) as progress:
        for key, size, output in images:
            found += _results(output, key=key, size=size, categories=truth.categories)
            progress.advance()
    return average_precision(truth, found)


def _results(
    output: Tensor, *, key: int, size: tuple[int, int], categories: Sequence[int]
) -> list[dict[str, Any]]:
    """An image's objects as COCO's program wants them, in pixels."""
    corners, classes, scores = detect(output)
    low, high = torch.split(corners * torch.tensor([*size, *size]), 2, dim=1)
    boxes = torch.cat([low, high - low], 1).tolist()
    return [
        {"image_id": key, "category_id": categories[number - 1], "bbox": box, "score": score}
        for box, number, score in zip(boxes, classes.tolist(), scores.tolist(), strict=True)
    ]
