"""Inputs are those of transformers' own image processors; folders with a test part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.brought.image_processor import find_preparation, prepare_as
from tests.support.image_folders import stripes
from ws_learner.core import UserError
from ws_learner.data import PreparedPhotographs, class_folders, load_image_folder

PROCESSORS: dict[str, dict[str, Any]] = {
    "ViTImageProcessorPil": {"size": {"height": 16, "width": 16}},
    "DeiTImageProcessorPil": {
        "size": {"height": 20, "width": 20},
        "crop_size": {"height": 16, "width": 16},
        "resample": 3,
    },
    "BitImageProcessorPil": {
        "size": {"shortest_edge": 18},
        "crop_size": {"height": 16, "width": 16},
    },
    "ConvNextImageProcessorPil": {"size": {"shortest_edge": 16}, "crop_pct": 0.8},
    "EfficientNetImageProcessorPil": {"size": {"height": 16, "width": 16}, "include_top": True},
    "LevitImageProcessorPil": {
        "size": {"shortest_edge": 14},
        "crop_size": {"height": 14, "width": 14},
    },
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_inputs_are_those_of_the_processor(name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    processor = getattr(transformers, name, None)
    if processor is None:
        pytest.skip(f"this transformers has no {name}")
    made = processor(**PROCESSORS[name], image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.4])
    made.save_pretrained(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (23, 37, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")

    preparation = find_preparation(tmp_path, image_size=None, default=224)
    split = PreparedPhotographs([str(tmp_path / "one.png")], np.array([1]), preparation)
    found, label = split[0]
    wanted = made(Image.fromarray(pixels), return_tensors="pt")["pixel_values"][0]
    assert label == 1
    assert found.shape == wanted.shape
    assert torch.allclose(found, wanted.float(), atol=1e-5)


def test_a_folder_without_a_processor_is_prepared_as_imagenet(tmp_path: Path) -> None:
    found = find_preparation(tmp_path, image_size=None, default=224)
    assert (found.size, found.resized, found.squared) == (224, 256, False)
    assert found.mean == (0.485, 0.456, 0.406)


def test_another_size_keeps_the_share_of_the_crop(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(
        '{"size": {"shortest_edge": 256}, "do_center_crop": true, "crop_size": 224}'
    )
    found = find_preparation(tmp_path, image_size=112, default=224)
    assert (found.size, found.resized) == (112, 128)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"size": {"height": 16, "width": 24}}, "size is 16 x 24; only square inputs fit"),
        ({"size": {"shortest_edge": 16}}, "images keep their own proportions"),
        ({"size": 16, "do_flip_channel_order": True}, "do_flip_channel_order is not supported"),
        ({"size": 16, "image_mean": [0.5]}, "image_mean has 1 values; only RGB images fit"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        prepare_as(settings, default=224)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(UserError, match=r"preprocessor_config\.json cannot be read"):
        find_preparation(tmp_path, image_size=None, default=224)


def test_augmented_images_differ_from_one_another_and_keep_their_shape(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (23, 37, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    preparation = find_preparation(tmp_path, image_size=16, default=224)
    files, labels = [str(tmp_path / "one.png")], np.array([0])
    split = PreparedPhotographs(files, labels, preparation, augment=True)
    first, second = split[0][0], split[0][0]
    assert first.shape == second.shape == (3, 16, 16)
    assert not torch.equal(first, second)


def test_a_test_folder_is_the_test_split(tmp_path: Path) -> None:
    stripes(tmp_path, parts={"train": 4, "val": 4, "test": 3})
    plain = load_image_folder(tmp_path, image_size=8, workers=0)
    own = load_image_folder(tmp_path, image_size=8, workers=0, test_folder=True)
    assert class_folders(tmp_path) == ("flat", "lying", "standing")
    assert (len(plain.train) + len(plain.search) + len(plain.select), len(plain.test)) == (12, 12)
    assert (len(own.train), len(own.search) + len(own.select), len(own.test)) == (12, 12, 9)
    assert plain.digest != own.digest
    for split in (own.search, own.select):  # stratified
        labels = torch.cat([targets for _, targets in split.batches(100)])
        assert labels.bincount().tolist() == [2, 2, 2]


def test_a_test_folder_without_classes_has_no_labels_and_is_left_out(tmp_path: Path) -> None:
    stripes(tmp_path, parts={"train": 4, "val": 4})
    before = load_image_folder(tmp_path, image_size=8, workers=0, test_folder=True)
    (tmp_path / "test").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "test" / "1.png")
    after = load_image_folder(tmp_path, image_size=8, workers=0, test_folder=True)
    assert after.digest == before.digest
    stripes(tmp_path / "test", names=("flat", "lying"))
    with pytest.raises(UserError, match="class standing is in only one of train and test"):
        load_image_folder(tmp_path, image_size=8, workers=0, test_folder=True)
