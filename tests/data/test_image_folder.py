import math
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ws_learner.core.errors import UserError
from ws_learner.data.dataset_split import DatasetSplit
from ws_learner.data.datasets.image_folder import load_image_folder
from ws_learner.data.image_decoding import MEAN, STD, Photographs, random_window

CLASSES = ("cat", "dog", "eel")

# On a machine with one core two workers are more than PyTorch advises.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


def write_images(folder: Path, count: int, *, seed: int, suffix: str = ".png") -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        size = tuple(rng.integers(20, 40, 2))
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}{suffix}")


@pytest.fixture
def ilsvrc(tmp_path) -> Path:
    """Three classes, 20 training and 4 validation images each."""
    for number, name in enumerate(CLASSES):
        suffix = (".png", ".JPEG", ".webp")[number]
        write_images(tmp_path / "train" / name, 20, seed=number, suffix=suffix)
        write_images(tmp_path / "val" / name, 4, seed=10 + number)
    return tmp_path


def everything(split, *, batch_size: int = 7, **options):
    return [
        (inputs.clone(), targets.clone())
        for inputs, targets in split.batches(batch_size, **options)
    ]


def same(first, second) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a, c) and torch.equal(b, d)
        for (a, b), (c, d) in zip(first, second, strict=True)
    )


def test_the_ilsvrc_layout_is_read_and_split(ilsvrc):
    data = load_image_folder(ilsvrc, image_size=16, workers=0)
    lengths = [len(part) for part in (data.train, data.search, data.select, data.test)]
    # 5 % of 60 are three images, one of a class; 10 % are six.
    assert lengths == [51, 3, 6, 12]
    assert data.num_classes == 3
    assert data.input_shape == (3, 16, 16)
    for part, each in ((data.search, 1), (data.select, 2), (data.train, 17), (data.test, 4)):
        labels = torch.cat([targets for _, targets in everything(part)])
        assert labels.bincount().tolist() == [each] * 3
    images = torch.cat(
        [
            inputs
            for part in (data.train, data.search, data.select, data.test)
            for inputs, _ in everything(part)
        ]
    )
    assert len(torch.unique(images.flatten(1), dim=0)) == 72


def test_class_folders_alone_give_a_fifth_to_the_test_part(tmp_path):
    for number, name in enumerate(CLASSES):
        write_images(tmp_path / name, 20, seed=number)
    data = load_image_folder(tmp_path, image_size=8, workers=0)
    lengths = [len(part) for part in (data.train, data.search, data.select, data.test)]
    assert lengths == [48 - 3 - 4, 3, 4, 12]
    images = torch.cat(
        [
            inputs
            for part in (data.train, data.search, data.select, data.test)
            for inputs, _ in everything(part)
        ]
    )
    assert len(torch.unique(images.flatten(1), dim=0)) == 60


def test_three_images_a_class_are_enough_and_two_are_not(ilsvrc, tmp_path):
    for folder in (ilsvrc / "train").iterdir():
        for image in sorted(folder.iterdir())[3:]:
            image.unlink()
    data = load_image_folder(ilsvrc, image_size=8, workers=0)
    assert [len(part) for part in (data.train, data.search, data.select)] == [3, 3, 3]
    for folder in (ilsvrc / "train").iterdir():
        sorted(folder.iterdir())[0].unlink()
    with pytest.raises(UserError, match=r"`data_dir` .*too few"):
        load_image_folder(ilsvrc, image_size=8, workers=0)


def test_results_do_not_depend_on_workers(ilsvrc):
    alone = load_image_folder(ilsvrc, image_size=16, workers=0).train
    helped = load_image_folder(ilsvrc, image_size=16, workers=2).train
    one = everything(alone, seed=4, augment=True)
    assert same(one, everything(helped, seed=4, augment=True))
    assert not same(one, everything(alone, seed=5, augment=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_resumed_within_an_epoch_sees_the_same_batches(ilsvrc, workers):
    train = load_image_folder(ilsvrc, image_size=16, workers=workers).train
    options = {"seed": 4, "augment": True, "drop_last": True}
    full = everything(train, **options)
    assert len(full) == 51 // 7
    assert same(full[5:], everything(train, skip=5, **options))
    assert everything(train, skip=99, **options) == []


def test_reading_leaves_the_global_random_generators_alone(ilsvrc):
    train = load_image_folder(ilsvrc, image_size=16, workers=0).train
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    expected = torch.rand(1), np.random.rand(), random.random()
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    everything(train, seed=1, augment=True)
    assert (torch.rand(1), np.random.rand(), random.random()) == expected


def test_search_and_select_are_not_augmented(ilsvrc):
    data = load_image_folder(ilsvrc, image_size=16, workers=0)
    for part in (data.search, data.select, data.test):
        plain = everything(part, batch_size=100)[0]
        shuffled = everything(part, batch_size=100, seed=3)[0]
        assert sorted(map(bytes, plain[0].numpy())) == sorted(map(bytes, shuffled[0].numpy()))


def test_scoring_takes_the_centre_and_normalises(tmp_path):
    # The shorter side is already 256, so nothing is resampled.
    pixels = np.random.default_rng(0).integers(0, 256, (256, 300, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    photographs = Photographs([str(tmp_path / "image.png")], np.array([3]), image_size=224)
    image, label = photographs[0]
    expected = (pixels[16:240, 38:262].astype(np.float64) / 255 - MEAN) / STD
    assert label == 3
    np.testing.assert_allclose(image.numpy(), expected.transpose(2, 0, 1), rtol=1e-6, atol=1e-6)


def test_training_takes_a_window_of_the_picture(tmp_path):
    # Red grows from left to right and green from top to bottom, so the output shows its window.
    across, down = np.meshgrid(np.arange(200), np.arange(200))
    pixels = np.stack([across, down, np.zeros_like(down)], axis=2).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    photographs = Photographs(
        [str(tmp_path / "image.png")], np.array([0]), image_size=32, augment=True
    )
    mirrored = 0
    for seed in range(60):
        random.seed(seed)
        left, top, right, bottom = random_window(200, 200)
        random.seed(seed)
        values = photographs[0][0].numpy().transpose(1, 2, 0) * STD + np.array(MEAN)
        red, green = values[..., 0] * 255, values[..., 1] * 255
        mirrored += red[0, 0] > red[0, -1]
        assert (red.min(), red.max()) == pytest.approx((left, right - 1), abs=4)
        assert (green[0, 0], green[-1, 0]) == pytest.approx((top, bottom - 1), abs=4)
    assert 15 < mirrored < 45


@given(width=st.integers(1, 3000), height=st.integers(1, 3000), seed=st.integers(0, 99))
def test_a_window_lies_in_the_picture_and_has_an_allowed_shape(width, height, seed):
    random.seed(seed)
    left, top, right, bottom = random_window(width, height)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    # Sides are whole pixels: each may be off by a half.
    across, down = right - left, bottom - top
    if min(across, down) > 10 and 3 / 4 <= width / height <= 4 / 3:
        slack = 1 + 1 / min(across, down)
        assert 3 / 4 / slack <= across / down <= 4 / 3 * slack
        assert 0.08 / slack**2 <= across * down / (width * height)


def test_windows_are_drawn_from_8_to_100_percent_of_the_area():
    random.seed(0)
    shares = []
    for _ in range(4000):
        left, top, right, bottom = random_window(1000, 1000)
        shares.append((right - left) * (bottom - top) / 1e6)
    # Nearly uniform: large windows of uneven sides do not fit and are drawn again.
    assert min(shares) == pytest.approx(0.08, abs=0.005)
    assert max(shares) > 0.95
    assert math.isclose(np.median(shares), 0.51, abs_tol=0.05)


def test_grey_and_transparent_pictures_become_rgb(tmp_path):
    for mode in ("L", "RGBA", "P", "CMYK"):
        file = tmp_path / f"{mode}{'.jpg' if mode == 'CMYK' else '.png'}"
        Image.new(mode, (40, 30)).save(file)
        image, _ = Photographs([str(file)], np.array([0]), image_size=16)[0]
        assert image.shape == (3, 16, 16)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_a_broken_image_is_one_line_that_names_the_file(ilsvrc, workers, content):
    file = ilsvrc / "val" / "dog" / "002.png"
    file.write_bytes(file.read_bytes()[:300] if content is None else content)
    data = load_image_folder(ilsvrc, image_size=16, workers=workers)
    with pytest.raises(UserError, match=r"cannot read image .*val/dog/002\.png") as caught:
        everything(data.test)
    assert "\n" not in str(caught.value)


def remove_class(folder: Path) -> None:
    for image in folder.iterdir():
        image.unlink()
    folder.rmdir()


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda root: (root / "val").rename(root / "test"), "no folder val"),
        (lambda root: (root / "train").rename(root / "other"), "no folder train"),
        (lambda root: remove_class(root / "val" / "dog"), "class dog is in train but not in val"),
        (lambda root: remove_class(root / "train" / "eel"), "class eel is in val but not in train"),
        (lambda root: (root / "train" / "fox").mkdir(), r"no images in class folder .*fox"),
    ],
)
def test_what_is_missing_is_said(ilsvrc, harm, reason):
    harm(ilsvrc)
    with pytest.raises(UserError, match=rf"`data_dir` {ilsvrc}: {reason}"):
        load_image_folder(ilsvrc)


def test_a_missing_or_empty_folder_says_what_is_expected(tmp_path):
    with pytest.raises(UserError, match=r"`data_dir` .*no such folder; expected train/CLASS"):
        load_image_folder(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"`data_dir` .*0 class folders .*expected train/CLASS"):
        load_image_folder(tmp_path)


def test_hidden_files_and_other_files_are_left_out(ilsvrc):
    (ilsvrc / "train" / ".cache").mkdir()
    (ilsvrc / "train" / "cat" / "._000.png").write_bytes(b"x")
    (ilsvrc / "train" / "cat" / "notes.txt").write_text("x")
    data = load_image_folder(ilsvrc, image_size=8, workers=0)
    assert len(data.train) + len(data.search) + len(data.select) == 60


def test_the_digest_knows_images_and_split_but_not_the_place(ilsvrc, tmp_path_factory):
    first = load_image_folder(ilsvrc, image_size=8).digest
    assert load_image_folder(ilsvrc, image_size=8, workers=0).digest == first
    assert load_image_folder(ilsvrc, image_size=8, split_seed=1).digest != first
    assert load_image_folder(ilsvrc, image_size=9).digest != first
    moved = ilsvrc.rename(tmp_path_factory.mktemp("new") / "home")
    assert load_image_folder(moved, image_size=8).digest == first
    (moved / "train" / "cat" / "000.png").unlink()
    assert load_image_folder(moved, image_size=8).digest != first


class Noisy:
    """A user's data set that augments itself from whatever generator it likes."""

    def __init__(self, length: int = 11) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        draws = [random.random(), float(np.random.rand()), float(torch.rand(()))]
        return torch.tensor([index, *draws]), index


def test_a_data_set_that_draws_at_random_gives_the_same_batches_every_time():
    split = DatasetSplit(Noisy())
    first = everything(split, batch_size=4, seed=2, augment=True)
    assert same(first, everything(split, batch_size=4, seed=2, augment=True))
    assert same(first, everything(DatasetSplit(Noisy(), workers=2), batch_size=4, seed=2))
    assert same(everything(split), everything(pickle.loads(pickle.dumps(split))))
    draws = torch.cat([inputs[:, 1:] for inputs, _ in first])
    assert len(torch.unique(draws)) == draws.numel()
    assert sorted(torch.cat([targets for _, targets in first]).tolist()) == list(range(11))


def test_a_data_set_that_does_not_fit_is_refused():
    class Ragged(Noisy):
        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return torch.zeros(index), index

    with pytest.raises(UserError, match="cannot be stacked into a batch"):
        next(DatasetSplit(Ragged()).batches(4))
    with pytest.raises(UserError, match="workers = -1"):
        DatasetSplit(Noisy(), workers=-1)
    with pytest.raises(ValueError, match="11 examples but 5 augmented"):
        DatasetSplit(Noisy(), augmented=Noisy(5))
    with pytest.raises(ValueError, match="needs a seed"):
        next(DatasetSplit(Noisy()).batches(4, augment=True))
