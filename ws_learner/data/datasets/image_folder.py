"""Image folders with one sub-folder per class, as in ILSVRC-12, as splits."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ws_learner.core import AnyPath, UserError, as_path
from ws_learner.data.dataset_split import DatasetSplit, Examples
from ws_learner.data.image_decoding import Photographs
from ws_learner.data.splits import DataSplits
from ws_learner.data.stratify import stratified_parts

__all__ = ["class_folders", "load_image_folder", "usable_cores"]

_SUFFIXES = {".jpeg", ".jpg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".gif"}
_LAYOUT = "expected train/CLASS/*.jpeg and val/CLASS/*.jpeg, or CLASS/*.jpeg"
_TEST_SHARE, _SEARCH_SHARE, _SELECT_SHARE = 0.20, 0.05, 0.10

Prepare = Callable[[Sequence[str], npt.NDArray[np.int64], bool], Examples]
"""(files, classes, augment) -> data set; replaces the usual preparation."""
Listing = dict[str, list[tuple[str, int]]]  # class -> (file, its size in bytes), sorted


def load_image_folder(
    data_dir: AnyPath,
    *,
    image_size: int = 224,
    workers: int | None = None,
    split_seed: int = 0,
    num_search: int = 2_000,
    num_select: int = 4_000,
    prepare: Prepare | None = None,
    test_folder: bool = False,
) -> DataSplits:
    """Load a folder of images; they are decoded when a batch is read.

    `data_dir` has either train/CLASS/* and val/CLASS/*, where val is the test split, or only
    CLASS/*, where a fifth becomes the test split. Search and select are drawn from the training
    images: at most 5 % and 10 % of them, but one image of every class if there are enough. Classes
    are numbered by their sorted folder names.

    Args:
        data_dir: The folder.
        image_size: Height and width of an input, in pixels.
        workers: Processes for decoding; 0 decodes in this process; None uses up to four.
        split_seed: Seed of the draw.
        num_search: Number of images of the search split.
        num_select: Number of images of the select split.
        prepare: Conversion of images to inputs; by default `Photographs`.
        test_folder: If there is also test/CLASS/*, it is the test split, search and select are
            halves of val, and all of train is for training. False ignores such a folder.

    Raises:
        UserError: Folders or images are missing, or train and val have different classes.
    """
    data_dir = as_path(data_dir, name="data_dir")
    processes = min(4, usable_cores()) if workers is None else workers
    if image_size < 1:
        raise UserError(f"image_size = {image_size}: give 1 pixel or more")
    train, validation, test = _listings(data_dir, test_folder=test_folder)
    files, labels = _flat(validation or train)
    sizes = _sizes(len(files), len(train), (num_search, num_select), has_test=bool(test))
    if validation:
        sizes = [min(num_search, len(files) // 2)]
    parts = stratified_parts(labels, sizes=sizes, seed=split_seed)
    if validation:
        parts[1] = parts[1][:num_select]
    if not all(len(part) for part in parts):
        raise UserError(
            f"`data_dir` {data_dir}: {len(files)} images in {len(train)} classes are too few to "
            f"split; give at least {len(parts)} of a class"
        )

    def usual(names: Sequence[str], classes: npt.NDArray[np.int64], augment: bool) -> Examples:
        return Photographs(names, classes, image_size=image_size, augment=augment)

    def split(names: Sequence[str], classes: npt.NDArray[np.int64]) -> DatasetSplit:
        made = [(prepare or usual)(names, classes, augment) for augment in (False, True)]
        return DatasetSplit(made[0], augmented=made[1], workers=processes)

    # Splits keep the drawn order: in folder order a batch would hold a single class.
    splits = [split([files[index] for index in part], labels[part]) for part in parts]
    if test:
        splits.insert(0, split(*_flat(test)))
    listings = [train, test]
    if validation:
        splits.append(split(*_shuffled(*_flat(train), seed=split_seed)))
        listings.append(validation)
    return DataSplits(
        name=data_dir.resolve().name,
        digest=_digest(data_dir, listings, f"{image_size} {split_seed} {sizes}"),
        num_classes=len(train),
        input_shape=(3, image_size, image_size),
        test=splits[0],
        search=splits[1],
        select=splits[2],
        train=splits[3],
    )


def class_folders(data_dir: AnyPath) -> tuple[str, ...]:
    """Names of the classes in such a folder, in the order of their numbers.

    Raises:
        UserError: As `load_image_folder`.
    """
    return tuple(_listings(as_path(data_dir), test_folder=False)[0])


def _sizes(images: int, classes: int, most: tuple[int, int], *, has_test: bool) -> list[int]:
    """Images of the parts that are drawn before training's: test if there is none, and others."""
    learned = images if has_test else images - round(_TEST_SHARE * images)
    shares = (_SEARCH_SHARE, _SELECT_SHARE)
    sizes = [
        min(limit, max(int(share * learned), classes))
        for limit, share in zip(most, shares, strict=True)
    ]
    return sizes if has_test else [images - learned, *sizes]


def usable_cores() -> int:
    """Number of cores that this process may use; in a container fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _listings(data_dir: Path, *, test_folder: bool) -> tuple[Listing, Listing, Listing]:
    """Files for training, search and select if they have a folder of their own, and the test."""
    try:
        train, test = _find(data_dir)
        last = _test_classes(data_dir, train) if test and test_folder else {}
    except OSError as error:
        raise UserError(f"`data_dir` {data_dir}: cannot read {error.filename}: {error}") from error
    return (train, test, last) if last else (train, {}, test)


def _find(data_dir: Path) -> tuple[Listing, Listing]:
    """Training and test files by class; no test files yet without train/ and val/."""
    if not data_dir.is_dir():
        raise UserError(f"`data_dir` {data_dir}: no such folder; {_LAYOUT}")
    halves = [data_dir / "train", data_dir / "val"]
    missing = [half for half in halves if not half.is_dir()]
    if len(missing) == 2:
        return _list_classes(data_dir, data_dir), {}
    if missing:
        raise UserError(f"`data_dir` {data_dir}: no folder {missing[0].name} in it; {_LAYOUT}")
    train, test = (_list_classes(half, data_dir) for half in halves)
    if different := sorted(set(train) ^ set(test)):
        has, lacks = ("train", "val") if different[0] in train else ("val", "train")
        raise UserError(
            f"`data_dir` {data_dir}: class {different[0]} is in {has} but not in {lacks} "
            f"({len(different)} such classes); both need the same class folders"
        )
    return train, test


def _test_classes(data_dir: Path, train: Listing) -> Listing:
    """Images of test/; none if it has no class folders, as in ILSVRC-12, where it has no labels."""
    folder = data_dir / "test"
    if not folder.is_dir() or not any(one.is_dir() for one in folder.iterdir()):
        return {}
    found = _list_classes(folder, data_dir)
    if different := sorted(set(train) ^ set(found)):
        raise UserError(
            f"`data_dir` {data_dir}: class {different[0]} is in only one of train and test "
            f"({len(different)} such classes); both need the same class folders"
        )
    return found


def _list_classes(folder: Path, data_dir: Path) -> Listing:
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    if len(names) < 2:
        raise UserError(
            f"`data_dir` {data_dir}: {len(names)} class folders in {folder}, at least 2 are "
            f"needed; {_LAYOUT}"
        )
    listing = {name: _list_images(folder / name) for name in names}
    for name, images in listing.items():
        if not images:
            raise UserError(
                f"`data_dir` {data_dir}: no images in class folder {folder / name}; expected "
                f"files ending in {' '.join(sorted(_SUFFIXES))}"
            )
    return listing


def _list_images(folder: Path) -> list[tuple[str, int]]:
    with os.scandir(folder) as entries:
        return sorted(
            (entry.path, entry.stat().st_size)
            for entry in entries
            if os.path.splitext(entry.name)[1].lower() in _SUFFIXES
            and not entry.name.startswith(".")
            and entry.is_file()
        )


def _flat(listing: Listing) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Files and their class numbers."""
    counts = [len(images) for images in listing.values()]
    files = [name for images in listing.values() for name, _ in images]
    return files, np.repeat(np.arange(len(listing)), counts)


def _shuffled(
    files: list[str], labels: npt.NDArray[np.int64], *, seed: int
) -> tuple[list[str], npt.NDArray[np.int64]]:
    order = np.random.default_rng(seed).permutation(len(files))
    return [files[index] for index in order], labels[order]


def _digest(data_dir: Path, listings: Sequence[Listing], settings: str) -> str:
    """Hash of relative file names, file sizes and settings, without reading the images."""
    state = hashlib.sha256(settings.encode())
    for listing in listings:
        for images in listing.values():
            for name, size in images:
                state.update(f"{Path(name).relative_to(data_dir).as_posix()} {size}\n".encode())
    return state.hexdigest()
