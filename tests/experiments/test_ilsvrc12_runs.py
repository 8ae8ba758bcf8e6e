"""The ILSVRC-12 experiments on a tiny folder of real images: the commands of the README."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits

from experiments.run import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Handwritten 0s, 1s and 2s, scaled up, as files in class folders."""
    root, bunch = tmp_path_factory.mktemp("images"), load_digits()
    for digit in range(3):
        for index, image in enumerate(bunch.images[bunch.target == digit][:30]):
            path = root / ("val" if index >= 20 else "train") / f"class{digit}" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.rint(image * (255 / 16)).astype(np.uint8).repeat(5, 0).repeat(5, 1)
            Image.fromarray(pixels).convert("RGB").save(path)
    return root


@pytest.mark.long
@pytest.mark.parametrize(
    ("experiment", "flags"),
    [
        ("resnet_at_ilsvrc12", ["--resnet_size", "18"]),
        ("mobilenet_at_ilsvrc12", ["--mobilenet_version", "2", "--mobilenet_width", "0.25"]),
    ],
)
def test_a_run_on_a_folder_of_images(
    folder: Path, tmp_path: Path, experiment: str, flags: list[str]
) -> None:
    common = [experiment, *flags, "--data_dir", str(folder), "--image_size", "32"]
    common += ["--data_workers", "0", "--batch_size", "16", "--nb_epochs", "2"]
    dense, sparse = tmp_path / "dense", tmp_path / "sparse"
    assert main([*common, "--learner", "full-prec", "--run_dir", str(dense)]) == 0
    pruning = ["--ws_prune_ratio_prtl", "heurist", "--enbl_dst", "--ws_mask_update_step", "1"]
    start = ["--dense_checkpoint", str(dense / "model.safetensors")]
    assert main([*common, *pruning, *start, "--run_dir", str(sparse)]) == 0
    state = load_file(sparse / "model.safetensors")
    prunable = [
        t
        for name, t in state.items()
        if t.dim() == 4 or name.endswith(("fc.weight", "classifier.1.weight"))
    ]
    total = sum(t.numel() for t in prunable)
    assert sum(int((t == 0).sum()) for t in prunable) == round(0.75 * total)
