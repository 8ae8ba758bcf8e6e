"""SSD: boxes, loss and suppression against plain loops; COCO's files; a folder of rectangles."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file

from experiments import ssd_at_coco
from experiments.experiment import Experiment
from experiments.models.resnet import resnet
from experiments.models.ssd_boxes import (
    decode_boxes,
    default_boxes,
    encode_boxes,
    iou,
    match,
    multibox_loss,
    share_recognised,
)
from experiments.models.ssd_detect import detect, nms
from experiments.models.ssd_resnet34 import ssd_resnet34
from experiments.run import main
from ws_learner.core.errors import UserError
from ws_learner.core.weights import load_into
from ws_learner.data.datasets.coco import load_coco, zoomed
from ws_learner.data.datasets.coco_file import average_precision, read_coco

ROOT = Path(__file__).parents[2]
COLOURS = ("red", "lime")


def rectangles(folder: Path, *, train: int = 40, val: int = 6) -> Path:
    """Grey pictures with red (category 3) and green (category 7) rectangles."""
    rng = np.random.default_rng(0)
    (folder / "annotations").mkdir(parents=True)
    for half, count in (("train", train), ("val", val)):
        (folder / f"{half}2017").mkdir()
        images, annotations = [], []
        for key in range(1, count + 1):
            picture = Image.new("RGB", (160, 120), "gray")
            for number in range(1 + key % 2):
                left, top = int(rng.integers(0, 90)), int(rng.integers(0, 60))
                wide, high = int(rng.integers(36, 70)), int(rng.integers(36, 60))
                box = (left, top, left + wide - 1, top + high - 1)
                ImageDraw.Draw(picture).rectangle(box, fill=COLOURS[number])
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": key,
                        "category_id": (3, 7)[number],
                        "bbox": [left, top, wide, high],
                        "area": wide * high,
                        "iscrowd": 0,
                    }
                )
            picture.save(folder / f"{half}2017" / f"{key}.png")
            images.append({"id": key, "file_name": f"{key}.png", "width": 160, "height": 120})
        whole = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 7, "name": "green"}, {"id": 3, "name": "red"}],
        }
        (folder / "annotations" / f"instances_{half}2017.json").write_text(json.dumps(whole))
    return folder


def plain_iou(a: list[float], b: list[float]) -> float:
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return wide * high / (sum(areas) - wide * high)


def some_boxes(rng: np.random.Generator, count: int) -> torch.Tensor:
    low = rng.uniform(0, 0.7, (count, 2))
    return torch.tensor(np.concatenate([low, low + rng.uniform(0.05, 0.3, (count, 2))], 1)).float()


def test_default_boxes_are_the_published_ones() -> None:
    boxes = default_boxes().double().numpy()
    assert boxes.shape == (8732, 4)
    # First map: 38 x 38 centres, 8 pixels apart, of side 21; the second shape is sqrt(21 * 45).
    np.testing.assert_allclose(boxes[0], [4 / 300, 4 / 300, 21 / 300, 21 / 300], rtol=1e-6)
    np.testing.assert_allclose(boxes[39, :2], [12 / 300, 12 / 300], rtol=1e-6)
    np.testing.assert_allclose(boxes[38 * 38, 2:], math.sqrt(21 * 45) / 300, rtol=1e-6)
    wide = [21 * math.sqrt(2) / 300, 21 / math.sqrt(2) / 300]
    np.testing.assert_allclose(boxes[2 * 38 * 38, 2:], wide, rtol=1e-6)
    np.testing.assert_allclose(boxes[-4], [0.5, 0.5, 261 / 300, 261 / 300], rtol=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_overlaps_and_suppression_are_those_of_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes, scores = some_boxes(rng, 12), torch.tensor(rng.random(12))
    matrix = iou(boxes, boxes).numpy()
    rows = boxes.tolist()
    wanted = [[plain_iou(a, b) for b in rows] for a in rows]
    np.testing.assert_allclose(matrix, wanted, atol=1e-5)
    kept: list[int] = []
    for place in np.argsort(-scores.numpy()):
        if all(wanted[place][other] <= 0.3 for other in kept):
            kept.append(int(place))
    assert nms(boxes, scores, overlap=0.3).tolist() == kept


@given(st.integers(0, 2**32 - 1))
def test_offsets_come_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes, defaults = some_boxes(rng, 9), default_boxes()[rng.integers(0, 8732, 9)]
    np.testing.assert_allclose(
        decode_boxes(encode_boxes(boxes, defaults), defaults), boxes, atol=1e-5
    )


def test_every_object_has_a_default_box_and_good_overlaps_have_one_too() -> None:
    tiny, large = [0.5, 0.5, 0.503, 0.503, 2.0], [0.1, 0.1, 0.9, 0.9, 1.0]
    objects = torch.tensor([tiny, large, [0.0, 0.0, 0.0, 0.0, 0.0]])
    classes, boxes = match(objects, default_boxes())
    assert int((classes == 2).sum()) == 1
    centres, sides = default_boxes().split(2, dim=1)
    corners = torch.cat([centres - sides / 2, centres + sides / 2], 1)
    for place in (classes == 1).nonzero()[:, 0].tolist():
        assert plain_iou(large[:4], corners[place].tolist()) >= 0.5
        assert boxes[place].tolist() == pytest.approx(large[:4])
    none, _ = match(torch.zeros(2, 5), default_boxes())
    assert not none.any()


def test_the_loss_counts_three_hard_negatives_for_each_match() -> None:
    rng = np.random.default_rng(0)
    targets = torch.tensor([[[0.1, 0.1, 0.5, 0.6, 2.0], [0.0] * 5], [[0.0] * 5] * 2])
    outputs = torch.tensor(rng.normal(size=(2, 4 + 3, 8732)))
    classes, boxes = match(targets[0], default_boxes())
    positive = classes.numpy() > 0
    scores = outputs[0, 4:].double().numpy()
    losses = np.log(np.exp(scores).sum(0)) - scores[classes.numpy(), np.arange(8732)]
    hard = np.sort(losses[~positive])[-3 * positive.sum() :]
    wanted = encode_boxes(boxes, default_boxes()).double().numpy()[positive]
    gap = np.abs(outputs[0, :4].double().numpy().T[positive] - wanted)
    near = np.where(gap < 1, gap**2 / 2, gap - 0.5).sum()
    total = (near + losses[positive].sum() + hard.sum()) / positive.sum()
    assert float(multibox_loss(outputs, targets)) == pytest.approx(total, rel=1e-4)


def perfect(objects: torch.Tensor, classes: int) -> torch.Tensor:
    """Outputs of a network that knows."""
    numbers, boxes = match(objects, default_boxes())
    scores = 20.0 * torch.nn.functional.one_hot(numbers, classes).T
    return torch.cat([encode_boxes(boxes, default_boxes()).T, scores])


def test_perfect_outputs_are_found_and_score_one(tmp_path: Path) -> None:
    truth = read_coco(
        rectangles(tmp_path / "coco") / "annotations" / "instances_val2017.json",
        tmp_path / "coco" / "val2017",
    )
    found, half = [], []
    for key, boxes in zip(truth.keys, truth.boxes, strict=True):
        outputs = perfect(torch.from_numpy(boxes), 3)
        assert share_recognised(outputs[None], torch.from_numpy(boxes)[None]).tolist() == [1.0]
        corners, classes, scores = detect(outputs)
        assert len(corners) == len(boxes)
        for (left, top, right, bottom), number, score in zip(corners, classes, scores, strict=True):
            sides = [left * 160, top * 120, (right - left) * 160, (bottom - top) * 120]
            one = {"image_id": key, "category_id": truth.categories[int(number) - 1]}
            one |= {"bbox": [float(side) for side in sides], "score": float(score)}
            found.append(one)
            half.append(one | {"category_id": 3})  # green ones are called red
    assert average_precision(truth, found) == {"AP": pytest.approx(1.0), "AP50": pytest.approx(1.0)}
    # Green is never found. Red ones and false alarms score alike, so red's precision is below 1.
    assert average_precision(truth, half)["AP"] <= 0.5
    assert average_precision(truth, []) == {"AP": 0.0, "AP50": 0.0}


def test_a_folder_is_read(tmp_path: Path) -> None:
    data, test = load_coco(rectangles(tmp_path / "coco"), image_size=60, workers=0)
    sizes = [len(part) for part in (data.train, data.search, data.select, data.test)]
    assert (sizes, data.num_classes, test.categories) == ([32, 4, 4, 6], 3, (3, 7))
    ((inputs, targets),) = data.test.batches(10)
    assert (inputs.shape, targets.shape) == ((6, 3, 60, 60), (6, 2, 5))
    whole = json.loads((tmp_path / "coco" / "annotations" / "instances_val2017.json").read_text())
    left, top, wide, high = whole["annotations"][0]["bbox"]
    corners = [left / 160, top / 120, (left + wide) / 160, (top + high) / 120, 1.0]
    assert targets[0, 0].tolist() == pytest.approx(corners)
    # In the middle of the last box drawn, the picture has its colour.
    for image, objects in zip(inputs, targets, strict=True):
        x0, y0, x1, y1, number = objects[objects[:, 4] > 0][-1].tolist()
        pixel = image[:, int(30 * (y0 + y1)), int(30 * (x0 + x1))]
        assert int(pixel.argmax()) == int(number) - 1
    again = [x for x, _ in data.train.batches(8, seed=3, augment=True)]
    assert all(map(torch.equal, again, (x for x, _ in data.train.batches(8, seed=3, augment=True))))


@given(st.integers(0, 2**32 - 1))
def test_a_window_keeps_boxes_where_the_picture_has_them(seed: int) -> None:
    import random

    random.seed(seed)
    boxes = some_boxes(np.random.default_rng(seed), 3).numpy()
    boxes = np.concatenate([boxes, [[1.0], [2.0], [3.0]]], 1).astype(np.float32)
    (left, top, right, bottom), kept = zoomed(boxes)
    assert 0 <= left < right <= 1
    assert 0 <= top < bottom <= 1
    assert len(kept)
    assert ((kept[:, :4] >= 0) & (kept[:, :4] <= 1)).all()
    sides = np.array([right - left, bottom - top] * 2)
    for box in kept:
        corners = box[:4] * sides + [left, top, left, top]
        whole = boxes[int(box[4]) - 1, :4]
        clipped = [*np.maximum(whole[:2], [left, top]), *np.minimum(whole[2:], [right, bottom])]
        np.testing.assert_allclose(corners, clipped, atol=1e-5)


def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path) -> None:
    folder = rectangles(tmp_path / "coco", train=12)
    path = folder / "annotations" / "instances_train2017.json"
    whole = json.loads(path.read_text())
    (folder / "train2017" / "5.png").unlink()
    with pytest.raises(UserError, match=r"image 5\.png is not in .*train2017"):
        load_coco(folder, image_size=60, workers=0)
    path.write_text(json.dumps(whole | {"annotations": [{"bbox": [0, 0, 5, 5]}]}))
    with pytest.raises(UserError, match=r"not COCO's JSON \(KeyError: 'image_id'\)"):
        load_coco(folder, image_size=60, workers=0)
    path.write_text(json.dumps(whole | {"annotations": []}))
    with pytest.raises(UserError, match="holds no images with boxes"):
        load_coco(folder, image_size=60, workers=0)
    path.unlink()
    with pytest.raises(UserError, match=r"no annotations/instances_train2017\.json there"):
        load_coco(folder, image_size=60, workers=0)


@pytest.mark.long
def test_the_trunk_is_that_of_a_classifier(tmp_path: Path) -> None:
    theirs = resnet(34).state_dict()
    save_file(theirs, tmp_path / "resnet34.safetensors")
    ours = ssd_resnet34(num_classes=3, pretrained=tmp_path / "resnet34.safetensors").state_dict()
    shared = [name for name in ours if name in theirs]
    parts = {name.partition(".")[0] for name in shared}
    assert parts == {"conv1", "bn1", "layer1", "layer2", "layer3"}
    assert all(torch.equal(ours[name], theirs[name]) for name in shared)
    save_file(resnet(18).state_dict(), tmp_path / "resnet18.safetensors")
    with pytest.raises(UserError, match=r"--pretrained .*: no ResNet-34; layer1\.2\."):
        ssd_resnet34(pretrained=tmp_path / "resnet18.safetensors")


def loss_of(experiment: Experiment) -> float:
    """On unseen pictures, with batch statistics: those of a fresh network are nobody's."""
    ((inputs, targets),) = experiment.data.test.batches(10)
    with torch.no_grad():
        return float(experiment.loss(experiment.model.train()(inputs), targets))


@pytest.mark.slow
def test_the_config_trains(tmp_path: Path) -> None:
    folder = str(rectangles(tmp_path / "coco", train=20))
    config = str(ROOT / "experiments" / "configs" / "ssd_resnet34_2x1_coco.yaml")
    words = ["ssd_at_coco", "--data_dir", folder, "--batch_size", "8", "--data_workers", "0"]
    words += ["--run_dir"]
    more = ["--lrn_rate", "2e-3", "--config", config]
    assert main([*words, str(tmp_path / "run"), *more]) == 0
    state = load_file(tmp_path / "run" / "model.safetensors")
    for name in ("layer1.0.conv1.weight", "layer3.5.conv2.weight", "additional_blocks.0.0.weight"):
        matrix = state[name].permute(0, 2, 3, 1).flatten(1)
        blocks = matrix.reshape(-1, 2, matrix.shape[1]).ne(0).sum(1)
        assert set(blocks.unique().tolist()) <= {0, 2}
        assert float((matrix == 0).double().mean()) == pytest.approx(0.75, abs=1e-3)
    assert not bool((state["loc.0.weight"] == 0).all())
    experiment = ssd_at_coco.build(
        ssd_at_coco.Options(data_dir=Path(folder), data_workers=0), seed=0
    )
    before = loss_of(experiment)
    load_into(experiment.model, tmp_path / "run" / "model.safetensors")
    assert loss_of(experiment) < 0.7 * before
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert 0 <= summary["measures"]["AP"] <= summary["measures"]["AP50"] <= 1
    assert main(["--exec_mode", "eval", "--run_dir", str(tmp_path / "run")]) == 0
