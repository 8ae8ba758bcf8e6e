"""What the README and the pages show runs as it stands: Python blocks, and the YAML to copy."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from experiments.run import main
from tests.support.pages import blocks, given_names, run_block
from ws_learner import UserError, split_dataset

ROOT = Path(__file__).parents[1]


def test_the_readmes_program_prunes_as_it_says(tmp_path: Path) -> None:
    (program,) = blocks("README.md")
    torch.manual_seed(0)
    left = run_block(program, tmp_path, {})
    weights = [left["model"][0].weight, left["model"][3].weight]
    sparse = [left["result"].model[0].weight, left["result"].model[3].weight]
    total = sum(weight.numel() for weight in weights)
    assert sum(int((weight == 0).sum()) for weight in sparse) == round(0.9 * total)
    assert not any((weight == 0).any() for weight in weights)  # the dense network is untouched
    summary = left["result"].summary
    assert summary["dense_accuracy"] > 0.9
    assert summary["sparse_accuracy"] >= summary["dense_accuracy"] - 0.01
    page = (tmp_path / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "test accuracy" in page


def test_the_guides_sparsifier_prunes_in_a_loop_of_ones_own(tmp_path: Path) -> None:
    (code,) = (block for block in blocks("docs/guide.md") if "Sparsifier" in block)
    given = given_names()
    inputs, targets = next(given["data"].train.batches(50))

    def train() -> None:
        for _ in range(200):
            given["optimizer"].zero_grad()
            given["loss"](given["model"](inputs), targets).backward()
            given["optimizer"].step()

    code, loops = re.subn(r"^\.\.\.  # the loop", "train()  # the loop", code, flags=re.MULTILINE)
    assert loops == 1
    left = run_block(code, tmp_path, given | {"train": train})
    assert int((left["model"].fc.weight == 0).sum()) == round(0.9 * 360)


@pytest.mark.slow
def test_the_guides_agent_learns_on_the_pruning_environment(tmp_path: Path) -> None:
    (code,) = (block for block in blocks("docs/guide.md") if "SAC" in block)
    env = run_block(code, tmp_path, given_names())["env"]
    observation, _ = env.reset()
    assert env.observation_space.contains(observation)


def test_every_python_block_of_the_pages_is_whole() -> None:
    found = 0
    for page in sorted((ROOT / "docs").glob("*.md")):
        for block in blocks(f"docs/{page.name}"):
            compile(block, page.name, "exec")
            found += 1
    assert found > 5


@pytest.mark.long
def test_the_yaml_to_copy_runs_on_a_folder_of_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", 16), ("val", 4)):
        for label in range(2):
            folder = tmp_path / "images" / part / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 128, (40, 40, 3)) + 100 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    text = (ROOT / "experiments" / "configs" / "conf.yaml").read_text()
    line = next(line for line in text.splitlines() if line.startswith("# ./run_local.sh"))
    small = text.replace("size: 64", "size: 32").replace("batch_size: 16", "batch_size: 8")
    (tmp_path / "conf.yaml").write_text(small)
    words = line.replace("experiments/configs/conf.yaml", str(tmp_path / "conf.yaml")).split()[2:]
    words = [str(tmp_path / "images") if word == "DIR" else word for word in words]
    run = tmp_path / "run"
    assert main([*words, "--data_workers", "0", "--run_dir", str(run)]) == 0
    state = load_file(run / "model.safetensors")
    zeros = {name: int((tensor == 0).sum()) for name, tensor in state.items() if tensor.dim() == 4}
    asked = {"layer1.0.conv1.weight": round(0.9 * 36864), "layer1.0.conv2.weight": 0.75 * 36864}
    assert {name: count for name, count in zeros.items() if count} == asked
    # Whole blocks of 4 outputs share an input and a tap.
    blocks_of_4 = (state["layer1.0.conv2.weight"] == 0).reshape(16, 4, -1).sum(1)
    assert set(blocks_of_4.unique().tolist()) == {0, 4}


def test_a_data_set_is_split_into_disjoint_parts_that_depend_on_the_seed() -> None:
    numbers = torch.arange(97)
    dataset = torch.utils.data.TensorDataset(numbers[:, None, None, None].float(), numbers % 3)
    first, again, other = (split_dataset(dataset, num_classes=3, seed=seed) for seed in (0, 0, 1))

    def members(data: Any, part: str) -> list[int]:
        return [int(x) for inputs, _ in getattr(data, part).batches(8) for x in inputs.flatten()]

    parts = {part: members(first, part) for part in ("search", "select", "test", "train")}
    assert {part: len(found) for part, found in parts.items()} == {
        "search": 10,
        "select": 10,
        "test": 19,
        "train": 58,
    }
    assert sorted(itertools.chain(*parts.values())) == list(range(97))
    assert all(members(again, part) == found for part, found in parts.items())
    assert members(other, "test") != parts["test"]
    assert (first.digest, first.input_shape) == (again.digest, (1, 1, 1))
    assert other.digest != first.digest
    with pytest.raises(UserError, match="97 examples"):
        split_dataset(dataset, num_classes=3, test=0.9)
