"""From SSD's outputs to objects (Liu et al. 2016, section 2.2), and how good they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from experiments.nets.ssd_boxes import decode, default_boxes, iou
from ws_learner.data.coco_file import Annotated, average_precision

if TYPE_CHECKING:
    from ws_learner.data.splits import Split
    from ws_learner.hardware import Arithmetic

__all__ = ["detect", "nms", "precision_of"]

_OVERLAP = 0.5


def nms(boxes: Tensor, scores: Tensor, *, overlap: float = _OVERLAP) -> Tensor:
    """Positions, best first, of (N, 4) corners that no better box overlaps by more."""
    order = scores.argsort(descending=True, stable=True)
    clash = iou(boxes[order], boxes[order]) > overlap
    kept = torch.ones(len(order), dtype=torch.bool)
    for place in range(len(order)):
        if kept[place]:
            kept[place + 1 :] &= ~clash[place, place + 1 :].cpu()
    return order[kept.to(order.device)]


def detect(
    output: Tensor, *, least: float = 0.05, most: int = 200
) -> tuple[Tensor, Tensor, Tensor]:
    """Objects of one image.

    Args:
        output: (4 + C, N), see `multibox_loss`.
        least: Smallest probability.
        most: Boxes of a class before suppression, and of the image.

    Returns:
        (K, 4) corners within [0, 1], (K,) classes from 1, (K,) probabilities, best first.
    """
    output = output.float().cpu()
    boxes = decode(output[:4].T, default_boxes()).clamp(0, 1)
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
    model: nn.Module, split: Split, truth: Annotated, arithmetic: Arithmetic
) -> dict[str, float]:
    """Average precision of a network on the images of `truth`, which `split` reads in order."""
    found: list[dict[str, Any]] = []
    reader = (row for x, _ in split.batches(32) for row in model(arithmetic.place(x)))
    for key, (across, down), output in zip(truth.keys, truth.sizes, reader, strict=True):
        for (left, top, right, bottom), number, score in zip(*detect(output), strict=True):
            box = (left * across, top * down, (right - left) * across, (bottom - top) * down)
            found.append(
                {
                    "image_id": key,
                    "category_id": truth.categories[int(number) - 1],
                    "bbox": [float(side) for side in box],
                    "score": float(score),
                }
            )
    return average_precision(truth, found)
