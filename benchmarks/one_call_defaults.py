"""What `prune` makes of small networks by its defaults, and what the same training makes dense.

    python -m benchmarks.one_call_defaults --seeds 3

Prints one row per task and seed: the test metric of the dense network, of the sparse one, and of
the dense network trained on by the same recipe, of which a single weight is zero.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split

from ws_learner import prune

__all__ = ["TASKS", "Task", "row"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A network, its data and its dense training by Adam in batches of 64.

    Attributes:
        network: Makes the network.
        data: Makes the data set.
        loss: Of the dense training.
        epochs: Of the dense training.
        rate: Its learning rate.
        prune_ratio: Of the sparse network.
    """

    network: Callable[[], nn.Module]
    data: Callable[[], TensorDataset]
    loss: Callable[[Tensor, Tensor], Tensor]
    epochs: int
    rate: float
    prune_ratio: float


class Sentences(nn.Module):
    """A transformer encoder of two layers over twelve words, which names one of four classes."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(20, 32), nn.Parameter(torch.randn(12, 32) * 0.02)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 4)

    def forward(self, words: Tensor) -> Tensor:
        """(B, 12) words to (B, 4) logits."""
        encoded: Tensor = self.encoder(self.words(words) + self.places)
        logits: Tensor = self.head(encoded.mean(1))
        return logits


def _digits() -> TensorDataset:
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    return TensorDataset(images, torch.tensor(digits.target))


def _cancer() -> TensorDataset:
    from sklearn.datasets import load_breast_cancer

    table = load_breast_cancer()
    rows = torch.tensor(table.data, dtype=torch.float32)
    return TensorDataset((rows - rows.mean(0)) / rows.std(0), torch.tensor(table.target))


def _sentences() -> TensorDataset:
    draw = torch.Generator().manual_seed(0)
    words = torch.randint(1, 20, (3000, 12), generator=draw)
    weights = torch.rand(20, 4, generator=draw)
    return TensorDataset(words, weights[words].sum(1).argmax(1))


def _friedman() -> TensorDataset:
    """Friedman's first function, as scikit-learn makes it, at unit variance."""
    from sklearn.datasets import make_friedman1

    rows, values = make_friedman1(3000, noise=1.0, random_state=0)
    targets = torch.tensor((values - values.mean()) / values.std(), dtype=torch.float32)
    return TensorDataset(torch.tensor(rows, dtype=torch.float32), targets[:, None])


def _perceptron(inputs: int, outputs: int) -> nn.Module:
    inner = (nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
    return nn.Sequential(*inner, nn.Linear(64, outputs))


def _convolution() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10))


_CLASSES = functional.cross_entropy
TASKS = {
    "digits": Task(
        network=_convolution, data=_digits, loss=_CLASSES, epochs=5, rate=1e-2, prune_ratio=0.9
    ),
    "cancer": Task(
        network=lambda: _perceptron(30, 2),
        data=_cancer,
        loss=_CLASSES,
        epochs=20,
        rate=3e-3,
        prune_ratio=0.9,
    ),
    "sentences": Task(
        network=Sentences, data=_sentences, loss=_CLASSES, epochs=15, rate=2e-3, prune_ratio=0.8
    ),
    "friedman": Task(
        network=lambda: _perceptron(10, 1),
        data=_friedman,
        loss=functional.mse_loss,
        epochs=40,
        rate=3e-3,
        prune_ratio=0.8,
    ),
}


def row(task: Task, *, seed: int) -> dict[str, Any]:
    """Metrics of the dense network, the sparse one, and the dense one trained on."""
    torch.manual_seed(seed)
    parts = random_split(task.data(), [0.6, 0.2, 0.2])
    model = task.network()
    _train(model, parts[0], task)
    weights = sum(parameter.numel() for parameter in model.parameters())
    with tempfile.TemporaryDirectory() as folder:
        sparse, dense = (
            prune(model, tuple(parts), ratio, run_dir=Path(folder) / name, config=config).summary
            for name, ratio, config in (
                ("sparse", task.prune_ratio, {}),
                ("dense", 1 / weights, {"ws_prune_ratio_prtl": "uniform"}),
            )
        )
    return {
        "metric": sparse["metric"],
        "dense": sparse["dense_metric"],
        "sparse": sparse["sparse_metric"],
        "dense trained on": dense["sparse_metric"],
        "seconds": sparse["search_seconds"] + sparse["train_seconds"],
    }


def _train(model: nn.Module, train: Dataset[Any], task: Task) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=task.rate)
    for _ in range(task.epochs):
        for inputs, targets in DataLoader(train, batch_size=64, shuffle=True):
            optimizer.zero_grad()
            task.loss(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def main() -> None:
    """Print a row for each task and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=list(TASKS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.tasks:
        for seed in range(given.seeds):
            print(name, TASKS[name].prune_ratio, seed, row(TASKS[name], seed=seed), flush=True)


if __name__ == "__main__":
    main()
