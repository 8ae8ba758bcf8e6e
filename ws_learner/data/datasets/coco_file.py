"""COCO annotation files (Lin et al. 2014) and average precision."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ws_learner.core import UserError

__all__ = ["Annotated", "average_precision", "read_coco"]

_WANTED = ("images", "annotations", "categories")


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """Images with boxes.

    Attributes:
        path: The JSON file.
        files: Image files.
        keys: COCO `id` of each image.
        sizes: Width and height of each image, in pixels.
        boxes: Boxes of each image (K, 5): corners as shares of width and height, class from 1.
            Crowd annotations are dropped.
        categories: COCO `id` of class 1, 2, ...
    """

    path: Path
    files: tuple[str, ...]
    keys: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    boxes: tuple[npt.NDArray[np.float32], ...]
    categories: tuple[int, ...]


def read_coco(path: Path, folder: Path, *, empty: bool = True) -> Annotated:
    """Read a file such as instances_val2017.json.

    Args:
        path: The JSON file.
        folder: Folder of its images.
        empty: Whether to keep images without a box.

    Raises:
        UserError: The file cannot be read or is malformed, or images are missing.
    """
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
        images, annotations, categories = (whole[name] for name in _WANTED)
        numbers = {key: n for n, key in enumerate(sorted(int(c["id"]) for c in categories), 1)}
        sizes = {one["id"]: (int(one["width"]), int(one["height"])) for one in images}
        boxes: dict[int, list[tuple[float, ...]]] = {one["id"]: [] for one in images}
        for one in annotations:
            if not one.get("iscrowd"):
                corners = _corners(one["bbox"], sizes[one["image_id"]])
                if corners[2] > corners[0] and corners[3] > corners[1]:
                    number = numbers[one["category_id"]]
                    boxes[one["image_id"]].append((*corners, float(number)))
    except OSError as error:
        raise UserError(f"{path}: cannot read it: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise UserError(f"{path}: not COCO's JSON ({type(error).__name__}: {error})") from error
    kept = [one for one in images if empty or boxes[one["id"]]]
    if not kept:
        raise UserError(f"{path}: holds no images{'' if empty else ' with boxes'}")
    files = [folder / one["file_name"] for one in kept]
    for file in files:
        if not file.is_file():
            raise UserError(f"{path}: image {file.name} is not in {folder}")
    return Annotated(
        path=path,
        files=tuple(map(str, files)),
        keys=tuple(one["id"] for one in kept),
        sizes=tuple(sizes[one["id"]] for one in kept),
        boxes=tuple(np.array(boxes[one["id"]], np.float32).reshape(-1, 5) for one in kept),
        categories=tuple(numbers),
    )


def _corners(box: Sequence[float], size: tuple[int, int]) -> tuple[float, ...]:
    """Convert left, top, width, height in pixels to corners as shares, clipped to the image."""
    left, top, width, height = (float(side) for side in box)
    across, down = size
    sides = (left / across, top / down, (left + width) / across, (top + height) / down)
    return tuple(min(max(side, 0.0), 1.0) for side in sides)


def average_precision(truth: Annotated, found: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Compute `AP` (mean over overlaps of 0.5 to 0.95) and `AP50` with pycocotools.

    Args:
        truth: All images of the annotation file.
        found: Detections with image_id, category_id, bbox (left, top, width, height in pixels)

            and score.

    Raises:
        UserError: pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise UserError(
            "average precision needs pycocotools: pip install -e '.[detection]'"
        ) from error
    if not found:
        return {"AP": 0.0, "AP50": 0.0}
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth.path))
        coco.dataset.setdefault("info", {})
        marks = COCOeval(coco, coco.loadRes(list(found)), "bbox")
        marks.evaluate()
        marks.accumulate()
        marks.summarize()
    return {"AP": float(max(marks.stats[0], 0.0)), "AP50": float(max(marks.stats[1], 0.0))}
