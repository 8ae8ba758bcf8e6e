"""COCO detection splits and SSD's augmentation."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from ws_learner.core import AnyPath, UserError, as_path
from ws_learner.data.dataset_split import DatasetSplit
from ws_learner.data.datasets.coco_file import Annotated, read_coco
from ws_learner.data.datasets.image_folder import usable_cores
from ws_learner.data.image_decoding import MEAN, STD, open_photograph
from ws_learner.data.normalization import normalise, normalise_table
from ws_learner.data.splits import DataSplits

__all__ = ["Boxed", "load_coco", "zoomed"]

_SHARE, _MOST = 0.1, 2_000  # of the training images, each for search and select
_LEAST_OVERLAP = (None, 0.0, 0.1, 0.3, 0.5, 0.7, 0.9)  # None: the whole image
_TRIES = 50

Window = tuple[float, float, float, float]  # left, top, right, bottom, as shares
Boxes = npt.NDArray[np.float32]  # (K, 5) corners as shares, class


def zoomed(boxes: Boxes) -> tuple[Window, Boxes]:
    """Draw a window and return its boxes (Liu et al. 2016, section 2.2, data augmentation).

    Its sides are 0.3 to 1 of the image's, one at most twice the other. Its overlap with one of the
    boxes reaches a randomly drawn minimum. Boxes with their centre inside are kept and clipped to
    the window. Draws from Python's global generator.
    """
    while True:
        least = random.choice(_LEAST_OVERLAP)
        if least is None or not len(boxes):
            return (0.0, 0.0, 1.0, 1.0), boxes
        for _ in range(_TRIES):
            wide, high = random.uniform(0.3, 1), random.uniform(0.3, 1)
            left, top = random.uniform(0, 1 - wide), random.uniform(0, 1 - high)
            window = (left, top, left + wide, top + high)
            if 0.5 <= wide / high <= 2 and (kept := _inside(boxes, window, least)) is not None:
                return window, kept


def _inside(boxes: Boxes, window: Window, least: float) -> Boxes | None:
    """Boxes in window coordinates; None if none reaches the minimum overlap."""
    low, high = np.array(window[:2]), np.array(window[2:])
    clipped_low, clipped_high = np.maximum(boxes[:, :2], low), np.minimum(boxes[:, 2:4], high)
    shared = np.maximum(clipped_high - clipped_low, 0).prod(1)
    areas = (boxes[:, 2:4] - boxes[:, :2]).prod(1)
    overlap = shared / (areas + (high - low).prod() - shared)
    centres = (boxes[:, :2] + boxes[:, 2:4]) / 2
    kept = ((centres > low) & (centres < high)).all(1)
    if not kept.any() or float(overlap.max()) < least:
        return None
    corners = np.concatenate([clipped_low - low, clipped_high - low], 1) / np.tile(high - low, 2)
    result: Boxes = np.concatenate([corners, boxes[:, 4:]], 1)[kept].astype(np.float32)
    return result


class Boxed:
    """Map-style data set: image float32 (3, size, size) and boxes (M, 5), padded with class 0."""

    def __init__(
        self,
        files: Sequence[str],
        boxes: Sequence[Boxes],
        *,
        image_size: int,
        most: int,
        augment: bool = False,
    ) -> None:
        """Store the paths; files are opened when read.

        Args:
            files: Paths of the images.
            boxes: Boxes of each image.
            image_size: Height and width of an input, in pixels; the aspect ratio is not kept.
            most: M, at least the largest number of boxes of an image.
            augment: Use a window by `zoomed`, mirrored half of the time.
        """
        self._files, self._boxes = files, boxes
        self._size, self._most, self._augment = image_size, most, augment
        self._table = normalise_table(MEAN, STD)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Decode one image.

        Raises:
            UserError: The file is no image, or broken; the message names it.
        """
        picture, boxes = open_photograph(self._files[index]), self._boxes[index]
        window: Window = (0.0, 0.0, 1.0, 1.0)
        mirrored = False
        if self._augment:
            window, boxes = zoomed(boxes)
            mirrored = random.random() < 0.5
        across, down = picture.size
        left, top, right, bottom = window
        picture = picture.resize(
            (self._size, self._size),
            Image.Resampling.BILINEAR,
            box=(left * across, top * down, right * across, bottom * down),
        )
        if mirrored:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            boxes = boxes.copy()
            boxes[:, [0, 2]] = 1 - boxes[:, [2, 0]]
        target = torch.zeros(self._most, 5)
        target[: len(boxes)] = torch.from_numpy(boxes)
        pixels = normalise(np.asarray(picture)[None], self._table)
        return torch.from_numpy(pixels[0]), target


def load_coco(
    data_dir: AnyPath,
    *,
    image_size: int,
    year: int = 2017,
    workers: int | None = None,
    split_seed: int = 0,
) -> tuple[DataSplits, Annotated]:
    """Read annotations/instances_{train,val}YEAR.json with trainYEAR/ and valYEAR/.

    val is the test split. A tenth of the training images, at most 2,000, is the search split, and
    as many are the select split. Training images without a box are dropped.

    Args:
        data_dir: Folder with these files and folders.
        image_size: Height and width of an input, in pixels.
        year: Year in the names.
        workers: Processes for decoding; 0 decodes in this process; None uses up to four.
        split_seed: Seed of the draw of search and select images.

    Returns:
        The splits, and the images of the test split.

    Raises:
        UserError: A file is missing or malformed.
    """
    data_dir = as_path(data_dir, name="data_dir")
    jsons = [data_dir / "annotations" / f"instances_{half}{year}.json" for half in ("train", "val")]
    for path in jsons:
        if not path.is_file():
            raise UserError(f"`data_dir` {data_dir}: no annotations/{path.name} there")
    train = read_coco(jsons[0], data_dir / f"train{year}", empty=False)
    test = read_coco(jsons[1], data_dir / f"val{year}")
    if train.categories != test.categories:
        raise UserError(f"`data_dir` {data_dir}: train and val must have the same categories")
    size = min(_MOST, int(_SHARE * len(train.files)))
    if not size:
        raise UserError(f"`data_dir` {data_dir}: {len(train.files)} training images are too few")
    most = max(len(boxes) for part in (train, test) for boxes in part.boxes)
    order = np.random.default_rng(split_seed).permutation(len(train.files))
    processes = min(4, usable_cores()) if workers is None else workers

    def split(part: Annotated, places: Sequence[int]) -> DatasetSplit:
        files, boxes = [part.files[i] for i in places], [part.boxes[i] for i in places]
        plain, varied = (
            Boxed(files, boxes, image_size=image_size, most=most, augment=augment)
            for augment in (False, True)
        )
        return DatasetSplit(plain, augmented=varied, workers=processes)

    state = hashlib.sha256(f"{image_size} {split_seed} {size}".encode())
    for path in jsons:
        state.update(path.read_bytes())
    return DataSplits(
        name="coco",
        digest=state.hexdigest(),
        num_classes=len(train.categories) + 1,
        input_shape=(3, image_size, image_size),
        search=split(train, order[:size].tolist()),
        select=split(train, order[size : 2 * size].tolist()),
        train=split(train, order[2 * size :].tolist()),
        test=split(test, range(len(test.files))),
    ), test
