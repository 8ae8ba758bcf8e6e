"""SSD's default boxes, matching and loss (Liu et al. 2016)."""

from __future__ import annotations

import itertools
import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "SIZE",
    "decode_boxes",
    "default_boxes",
    "encode_boxes",
    "iou",
    "match",
    "multibox_loss",
    "share_recognised",
]

SIZE = 300
"""Height and width of an input, in pixels."""

_MAPS = (38, 19, 10, 5, 3, 1)
_STEPS = (8, 16, 32, 64, 100, 300)  # pixels between two centres
_SCALES = (21, 45, 99, 153, 207, 261, 315)  # pixels
_RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
_CENTRE, _SIDE = 0.1, 0.2  # spreads by which offsets are divided
_NEGATIVES = 3  # for each positive
_OVERLAP = 0.5


@cache
def default_boxes() -> Tensor:
    """(8732, 4) centre x, centre y, width, height in [0, 1]; section 2.2, MLPerf's sizes.

    In the order of the network's heads: map, shape, row, column.
    """
    rows = []
    for level, (count, step, ratios) in enumerate(zip(_MAPS, _STEPS, _RATIOS, strict=True)):
        side, larger = _SCALES[level] / SIZE, math.sqrt(_SCALES[level] * _SCALES[level + 1]) / SIZE
        shapes = [(side, side), (larger, larger)]
        for ratio in ratios:
            wide, high = side * math.sqrt(ratio), side / math.sqrt(ratio)
            shapes += [(wide, high), (high, wide)]
        for (wide, high), row, column in itertools.product(shapes, range(count), range(count)):
            rows.append(((column + 0.5) * step / SIZE, (row + 0.5) * step / SIZE, wide, high))
    return torch.tensor(rows).clamp(0, 1)


def _corners(boxes: Tensor) -> Tensor:
    """Centre and sides to left, top, right, bottom."""
    return torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)


def iou(one: Tensor, other: Tensor) -> Tensor:
    """(N, M) intersection over union of (N, 4) and (M, 4) corners; 0 where both are empty."""
    low = torch.maximum(one[:, None, :2], other[None, :, :2])
    high = torch.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = (high - low).clamp_min(0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clamp_min(0).prod(1) for boxes in (one, other)]
    whole = areas[0][:, None] + areas[1][None] - shared
    return shared / whole.clamp_min(torch.finfo(whole.dtype).tiny)


def encode_boxes(boxes: Tensor, defaults: Tensor) -> Tensor:
    """(N, 4) corners as offsets from (N, 4) default boxes; section 2.2, equation 2."""
    centre, side = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    moved = (centre - defaults[:, :2]) / defaults[:, 2:] / _CENTRE
    return torch.cat([moved, (side.clamp_min(1e-6) / defaults[:, 2:]).log() / _SIDE], 1)


def decode_boxes(offsets: Tensor, defaults: Tensor) -> Tensor:
    """(..., N, 4) offsets back to corners."""
    centre = offsets[..., :2] * _CENTRE * defaults[:, 2:] + defaults[:, :2]
    side = (offsets[..., 2:] * _SIDE).exp() * defaults[:, 2:]
    return _corners(torch.cat([centre, side], -1))


def match(objects: Tensor, defaults: Tensor) -> tuple[Tensor, Tensor]:
    """Which object a default box stands for: the best at an overlap of at least a half.

    Every object has at least its best default box; section 2.2.

    Args:
        objects: (M, 5) corners and class from 1; rows of class 0 are padding.
        defaults: (N, 4).

    Returns:
        (N,) class, 0 for background, and (N, 4) corners of the object.
    """
    objects = objects[objects[:, 4] > 0]
    if not len(objects):
        return defaults.new_zeros(len(defaults), dtype=torch.long), _corners(defaults)
    overlap = iou(objects[:, :4], _corners(defaults))  # (M, N)
    best, owner = overlap.max(0)
    favourite = overlap.argmax(1)
    owner[favourite] = torch.arange(len(objects), device=owner.device)
    best[favourite] = 1.0
    classes = objects[owner, 4].long() * (best >= _OVERLAP)
    return classes, objects[owner, :4]


def multibox_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy and smooth L1 over the batch's matched boxes; section 2.2, equation 1.

    Of the background three boxes for each matched one count, those with the largest loss.

    Args:
        outputs: (B, 4 + C, N) offsets, then class scores, background first.
        targets: (B, M, 5), see `match`.
    """
    defaults = default_boxes().to(outputs.device)
    pairs = [match(objects, defaults) for objects in targets.float()]
    classes, boxes = (torch.stack(list(part)) for part in zip(*pairs, strict=True))
    outputs = outputs.float()
    positive = classes > 0
    wanted = torch.stack([encode_boxes(one, defaults) for one in boxes])
    near = functional.smooth_l1_loss(
        outputs[:, :4].transpose(1, 2)[positive], wanted[positive], reduction="sum"
    )
    each = functional.cross_entropy(outputs[:, 4:], classes, reduction="none")
    order = each.detach().masked_fill(positive, -1.0).argsort(1, descending=True).argsort(1)
    hard = ~positive & (order < _NEGATIVES * positive.sum(1, keepdim=True))
    return (near + each[positive | hard].sum()) / positive.sum().clamp_min(1)


def share_recognised(outputs: Tensor, targets: Tensor) -> Tensor:
    """(B,) share of an image's matched default boxes with the right class; 1 without an object.

    A cheap stand-in for average precision while training; arguments as `multibox_loss`.
    """
    defaults = default_boxes().to(outputs.device)
    guesses, shares = outputs[:, 4:].argmax(1), []
    for guess, objects in zip(guesses, targets.float(), strict=True):
        classes, _ = match(objects, defaults)
        positive = classes > 0
        right = (guess == classes)[positive].sum() / positive.sum().clamp_min(1)
        shares.append(torch.where(positive.any(), right, torch.ones_like(right)))
    return torch.stack(shares)
