"""Networks that searches are measured on: weights from Keras's file against Keras's formulas."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

from benchmarks.keras_vgg import VggLike, in_pixels, keras_state
from benchmarks.search_tasks import load_search_task
from tests.support.rollout_parts import tiny_data
from ws_learner.core import UserError

WIDTHS, DENSE, SIDE = (2, 3, 2), (5, 4, 3), 40  # 3 x 3 pixels are left before the dense layers
Weights = dict[str, dict[str, Any]]


def keras_weights(rng: np.random.Generator) -> Weights:
    """Arrays by layer, named and shaped as Keras does: inputs before outputs, channels last."""
    found: Weights = {}
    inputs = 3
    for place, outputs in enumerate(np.repeat(WIDTHS, 2).tolist()):
        end = f"_{place}" if place else ""
        kernel, bias = rng.normal(size=(3, 3, inputs, outputs)), rng.normal(size=outputs)
        found[f"conv2d{end}"] = {"kernel": kernel / 3, "bias": bias}
        norm = {name: rng.normal(size=outputs) for name in ("gamma", "beta", "moving_mean")}
        found[f"batch_normalization{end}"] = norm | {"moving_variance": rng.uniform(1, 2, outputs)}
        inputs = outputs
    inputs *= 9
    for place, outputs in enumerate(DENSE):
        kernel, bias = rng.normal(size=(inputs, outputs)), rng.normal(size=outputs)
        found[f"dense_{place}" if place else "dense"] = {"kernel": kernel, "bias": bias}
        inputs = outputs
    return found


def keras_outputs(images: Any, weights: Weights) -> Any:
    """Images (B, H, W, C) through the layers, in float64."""
    out = images
    for place in range(6):
        end = f"_{place}" if place else ""
        kernel, bias = weights[f"conv2d{end}"].values()
        windows = sliding_window_view(out, (3, 3), axis=(1, 2))  # (B, H, W, C, 3, 3)
        out = np.maximum(np.einsum("bhwcij,ijco->bhwo", windows, kernel) + bias, 0)
        gamma, beta, mean, variance = weights[f"batch_normalization{end}"].values()
        out = (out - mean) / np.sqrt(variance + 1e-3) * gamma + beta
        if place in (1, 3):
            batch, height, width, channels = out.shape
            out = out.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))
    out = out.reshape(len(out), -1)
    for name in ("dense", "dense_1", "dense_2"):
        out = np.maximum(out @ weights[name]["kernel"] + weights[name]["bias"], 0)
    return out


def test_a_keras_file_gives_keras_outputs() -> None:
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(0)
    weights, images = keras_weights(rng), rng.normal(size=(4, SIDE, SIDE, 3))
    file = io.BytesIO()
    with h5py.File(file, "w") as stored:
        for layer, arrays in weights.items():
            for name, array in arrays.items():
                stored[f"model_weights/{layer}/{layer}/{name}:0"] = array
    file.seek(0)
    model = VggLike(WIDTHS, DENSE, side=SIDE).double().eval()
    state = keras_state(file, model)
    names = {name for name in model.state_dict() if "num_batches" not in name}
    assert set(state) == names
    model.load_state_dict(model.state_dict() | state)
    found = model(torch.from_numpy(images.transpose(0, 3, 1, 2)))
    expected = keras_outputs(images, weights)
    assert (expected > 0).any(0).sum() > 1  # not all cut by the last ReLU
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-9, atol=1e-9)


def test_the_network_has_the_packages_sizes() -> None:
    model = VggLike()
    assert model.shape == (64, 1, 1)
    shapes = [tuple(w.shape) for w in model.parameters() if w.ndim > 1]
    inner = [(64, 3), (64, 64), (128, 64), (128, 128), (64, 128), (64, 64)]
    assert shapes == [*((*pair, 3, 3) for pair in inner), (1024, 64), (512, 1024), (10, 512)]


def test_pixels_are_as_stored() -> None:
    data = tiny_data()
    ours = in_pixels(data)
    for name in ("train", "search", "select", "test"):
        split, before = getattr(ours, name), getattr(data, name)
        images, labels = next(split.batches(8))
        assert labels.tolist() == before.labels[:8].tolist()
        assert np.array_equal(images.numpy().transpose(0, 2, 3, 1), before.images[:8])
    assert ours.digest != data.digest


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(UserError, match="'vgg': must be one of resnet20, "):
        load_search_task("vgg")
