"""The YAML of LPOT's manual, word for word, trailing blanks aside; images for it to train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SEED_YAML = """\
pruning:                                             # mandotory only for pruning.
  train:
    start_epoch: 0
    end_epoch: 10
    iteration: 100
    frequency: 2

    dataloader:
      batch_size: 256
      dataset:
        ImageFolder:
          root: /path/to/imagenet/train
      transform:
        RandomResizedCrop:
          size: 224
        RandomHorizontalFlip:
        ToTensor:
        Normalize:
          mean: [0.485, 0.456, 0.406]
          std: [0.229, 0.224, 0.225]
    criterion:
      CrossEntropyLoss:
        reduction: None
    optimizer:
      SGD:
        learning_rate: 0.1
        momentum: 0.9
        weight_decay: 0.0004
        nesterov: False

  approach:
    weight_compression:
      initial_sparsity: 0.0
      target_sparsity: 0.3
      pruners:
        - !Pruner
            initial_sparsity: 0.0
            target_sparsity: 0.97
            prune_type: basic_magnitude              # currently only support basic_magnitude
            names: ['layer1.0.conv1.weight']         # tensor name to be pruned.
            start_epoch: 0
            end_epoch: 2
            update_frequency: 0.1
"""

SMALL = {
    "size: 224": "size: 32",
    "batch_size: 256": "batch_size: 8",
    "end_epoch: 10": "end_epoch: 4",
    "iteration: 100": "iteration: 2",
    "learning_rate: 0.1": "learning_rate: 0.01",
}


def images(root: Path, *, per_class: int = 20) -> Path:
    generator = np.random.default_rng(0)
    for label in range(3):
        for part, count in (("train", per_class), ("val", 4)):
            folder = root / part / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(count):
                size = generator.integers(36, 60, 2)
                noise = generator.integers(0, 80, (*size, 3))
                pixels = (noise + 60 * label).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return root / "train"


def config(path: Path, root: Path, changes: dict[str, str]) -> str:
    text = SEED_YAML.replace("/path/to/imagenet/train", str(root))
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return str(path)


def words(conf: str, run: Path, *more: str) -> list[str]:
    """Command-line words of a run by an LPOT file, with a small ResNet."""
    line = ["resnet_at_ilsvrc12", "--resnet_size", "18", "--config", conf]
    return [*line, "--data_workers", "0", "--run_dir", str(run), *more]
