import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as numpy_arrays

from tests.support.digits import digits_splits
from ws_learner.data.arrays import ArraySplit, crop_and_flip
from ws_learner.data.stratify import stratified_parts

MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)


def random_images(count: int = 23, *, height: int = 6, width: int = 5) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def split_of(images: np.ndarray, **options: object) -> ArraySplit:
    return ArraySplit(images, np.arange(len(images)), mean=MEAN, std=STD, **options)


def augmented_one_by_one(images: np.ndarray, rng: np.random.Generator, padding: int) -> np.ndarray:
    """The slow way: every image on its own."""
    count, height, width, _ = images.shape
    tops = rng.integers(0, 2 * padding + 1, size=count)
    lefts = rng.integers(0, 2 * padding + 1, size=count)
    mirrored = rng.integers(0, 2, size=count)
    out = []
    for image, top, left, mirror in zip(images, tops, lefts, mirrored, strict=True):
        padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
        window = padded[top : top + height, left : left + width]
        out.append(np.fliplr(window) if mirror else window)
    return np.stack(out)


@pytest.mark.parametrize("padding", [0, 1, 4])
def test_crop_and_flip_agree_with_a_loop_over_images(padding):
    images = random_images()
    fast = crop_and_flip(images, np.random.default_rng(9), padding=padding)
    slow = augmented_one_by_one(images, np.random.default_rng(9), padding)
    np.testing.assert_array_equal(fast, slow)


def test_crops_and_flips_reach_every_place_equally_often():
    # One bright pixel in the middle of an otherwise black 9x9 image.
    images = np.zeros((4000, 9, 9, 1), dtype=np.uint8)
    images[:, 4, 3] = 255
    out = crop_and_flip(images, np.random.default_rng(0), padding=1)
    _, rows, columns, _ = np.nonzero(out)
    places, counts = np.unique(np.stack([rows, columns]), axis=1, return_counts=True)
    # Column 3 shifted by -1..1, or mirrored to 5 and shifted: 2, 3, 4 and 4, 5, 6.
    wanted = {(row, column): 2 if column == 4 else 1 for row in (3, 4, 5) for column in range(2, 7)}
    assert set(map(tuple, places.T)) == set(wanted)
    for place, count in zip(places.T, counts, strict=True):
        expected = len(images) * wanted[tuple(place)] / 18
        assert abs(count - expected) < 5 * expected**0.5


def test_without_augmentation_the_batches_are_the_images_normalised_in_file_order():
    images = random_images()
    inputs, targets = map(torch.cat, zip(*split_of(images).batches(4), strict=True))
    expected = (images.astype(np.float64) / 255 - MEAN) / STD
    assert inputs.dtype == torch.float32
    assert inputs.is_contiguous()
    np.testing.assert_allclose(inputs.numpy(), expected.transpose(0, 3, 1, 2), rtol=1e-6, atol=1e-7)
    assert targets.dtype == torch.int64
    assert targets.tolist() == list(range(len(images)))


def test_zero_padding_is_black_not_the_mean_colour():
    split = split_of(np.full((50, 4, 4, 3), 255, dtype=np.uint8), flip=False)
    inputs, _ = next(split.batches(50, seed=0, augment=True))
    black = torch.tensor([-m / s for m, s in zip(MEAN, STD, strict=True)])
    for channel in range(3):
        assert inputs[:, channel].min().item() == pytest.approx(black[channel].item())


@given(skip=st.integers(0, 8), drop_last=st.booleans(), augment=st.booleans())
def test_batch_k_is_the_same_whatever_is_skipped(skip, drop_last, augment):
    split = split_of(random_images())
    options = {"seed": 3, "augment": augment, "drop_last": drop_last}
    full = list(split.batches(5, **options))
    rest = list(split.batches(5, skip=skip, **options))
    assert len(full) == (4 if drop_last else 5)
    assert len(rest) == max(len(full) - skip, 0)
    for (a, b), (c, d) in zip(full[skip:], rest, strict=True):
        assert torch.equal(a, c)
        assert torch.equal(b, d)


def test_the_seed_decides_order_and_augmentation_and_nothing_else():
    split = split_of(random_images())
    torch.manual_seed(1)
    first = list(split.batches(5, seed=3, augment=True))
    torch.manual_seed(2)
    np.random.seed(7)
    again = list(pickle.loads(pickle.dumps(split)).batches(5, seed=3, augment=True))
    other = list(split.batches(5, seed=4, augment=True))
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for (a, _), (b, _) in zip(first, other, strict=True))
    seen = torch.cat([targets for _, targets in first])
    assert sorted(seen.tolist()) == list(range(23))
    assert seen.tolist() != list(range(23))


def test_batches_of_one_epoch_are_augmented_differently():
    # All images are equal, so equal batches would mean that random numbers repeat.
    split = split_of(np.broadcast_to(random_images(1), (40, 6, 5, 3)).copy())
    first, second = split.batches(20, seed=0, augment=True)
    assert not torch.equal(first[0], second[0])


def test_both_layouts_give_the_same_batches():
    images = random_images()
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    for (a, _), (b, _) in zip(
        split_of(images).batches(6, seed=1, augment=True),
        split_of(planes, channels_first=True).batches(6, seed=1, augment=True),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_read_only_arrays_can_be_read_without_a_warning():
    images = random_images()
    images.flags.writeable = False
    inputs, _ = next(split_of(images).batches(4, seed=0))
    assert inputs.shape == (4, 3, 6, 5)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: next(split_of(random_images()).batches(4, augment=True)), "needs a seed"),
        (lambda: next(split_of(random_images()).batches(4, seed=-1)), "seed = -1"),
        (lambda: split_of(random_images().astype(np.float32)), "uint8"),
        (lambda: split_of(random_images(), channels_first=True), "channels"),
        (
            lambda: ArraySplit(random_images(), np.arange(3), mean=MEAN, std=STD),
            "23 images but labels",
        ),
        (
            lambda: ArraySplit(random_images(), np.arange(23), mean=MEAN, std=(1.0, 0.0, 1.0)),
            "std > 0",
        ),
    ],
)
def test_bad_input_is_refused(make, reason):
    with pytest.raises(ValueError, match=reason):
        make()


@settings(max_examples=200)
@given(
    labels=numpy_arrays(np.int64, st.integers(1, 200), elements=st.integers(0, 6)),
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=3),
    seed=st.integers(0, 5),
)
def test_parts_are_disjoint_complete_and_fair(labels, sizes, seed):
    parts = stratified_parts(labels, sizes=sizes, seed=seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    again = stratified_parts(labels, sizes=sizes, seed=seed)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))
    counts = np.bincount(labels, minlength=7)
    last = np.bincount(labels[parts[-1]], minlength=7)
    assert (last[counts > 0] >= 1).all()
    for part, size in zip(parts, sizes, strict=False):
        assert len(part) <= size
    # Where all classes have room, the sizes are exact and every class has its one.
    first = np.bincount(labels[parts[0]], minlength=7)
    room = np.maximum(counts - len(sizes), 0)
    assert len(parts[0]) == min(sizes[0], room.sum())
    if sizes[0] >= np.count_nonzero(room):
        assert (first[room > 0] >= 1).all()


def test_equal_classes_get_equal_shares():
    labels = np.repeat(np.arange(10), 500)
    search, select, train = stratified_parts(labels, sizes=(200, 400), seed=0)
    for part, each in ((search, 20), (select, 40), (train, 440)):
        assert np.bincount(labels[part]).tolist() == [each] * 10


def test_a_part_mirrors_the_classes_of_the_whole():
    labels = np.repeat(np.arange(3), [700, 200, 100])
    part, _ = stratified_parts(labels, sizes=(100,), seed=0)
    assert np.abs(np.bincount(labels[part]) - [70, 20, 10]).max() <= 1


def test_digits_are_real_and_split_as_said():
    data = digits_splits()
    lengths = [len(part) for part in (data.train, data.search, data.select, data.test)]
    assert lengths == [1000, 200, 200, 397]
    inputs, targets = next(data.train.batches(1000))
    assert inputs.shape[1:] == data.input_shape
    # A nearest-mean classifier reads real digits far better than chance.
    means = torch.stack([inputs[targets == digit].mean(0) for digit in range(10)]).flatten(1)
    tested, truth = next(data.test.batches(397))
    guesses = torch.cdist(tested.flatten(1), means).argmin(1)
    assert (guesses == truth).float().mean() > 0.8
