"""Small tasks whose outputs are no (B, C) classes: networks with known answers, and their data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from ws_learner.core.output_kinds import OutputKind
from ws_learner.data.splits import DataSplits
from ws_learner.data.user_dataset import split_dataset
from ws_learner.training.metric_spec import Metric, MetricSpec

EXAMPLES, SIDE, CLASSES = 200, 8, 3


@dataclass(frozen=True, kw_only=True)
class Task:
    """A trained network, its data, and an `absurd` network of the same shapes.

    Attributes:
        kind: What the outputs mean.
        dense: Does the task well.
        absurd: Every answer is wrong, or the same.
        data: Splits of 200 examples.
        loss: Not one of PyTorch's own functions, so that it does not tell the kind.
        metric: Score of each example.
    """

    kind: OutputKind
    dense: nn.Module
    absurd: nn.Module
    data: DataSplits
    loss: Callable[[Tensor, Tensor], Tensor]
    metric: Metric


class Adds(nn.Module):
    """A network plus a constant."""

    def __init__(self, network: nn.Module, constant: Tensor) -> None:
        super().__init__()
        self.network, self.constant = network, constant

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.network(x) + self.constant
        return added


class LastAxis(nn.Module):
    """(B, T, D) inputs to (B, T, C) logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().reshape(len(outputs), -1).mean(1)


MSE = MetricSpec(squared_error, name="MSE", unit="K^2", higher_is_better=False)


def right_labels(outputs: Tensor, targets: Tensor) -> Tensor:
    return ((outputs > 0) == (targets > 0)).float().reshape(len(outputs), -1).mean(1)


def right_positions(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(1) == targets).float().flatten(1).mean(1)


def right_tokens(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(-1) == targets).float().mean(1)


def train(
    model: nn.Module, inputs: Tensor, targets: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        loss(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model.eval()


def splits(inputs: Tensor, targets: Tensor, *, num_classes: int) -> DataSplits:
    return split_dataset(
        TensorDataset(inputs, targets),  # type: ignore[arg-type]
        num_classes=num_classes,
        search=0.3,
        select=0.2,
        test=0.2,
    )


def mlp(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 24), nn.ReLU(), nn.Linear(24, outputs))


def segmentation() -> Task:
    """(B, 3, 8, 8) logits: which of three channels is brightest at a pixel."""
    torch.manual_seed(0)
    inputs = torch.rand(EXAMPLES, 3, SIDE, SIDE)
    targets = inputs.argmax(1)
    model = nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, CLASSES, 1))

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets)

    dense = train(model, inputs, targets, loss)
    one_class = torch.tensor([60.0, 0.0, 0.0])[:, None, None]
    return Task(
        kind="classes",
        dense=dense,
        absurd=Adds(dense, one_class),
        data=splits(inputs, targets, num_classes=CLASSES),
        loss=loss,
        metric=right_positions,
    )


def tokens() -> Task:
    """(B, 7, 3) logits: the largest of three numbers at each of 7 tokens."""
    torch.manual_seed(0)
    inputs = torch.rand(EXAMPLES, 7, 3)
    targets = inputs.argmax(2)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs.movedim(-1, 1), targets)

    dense = train(LastAxis(mlp(3, CLASSES)), inputs, targets, loss)
    return Task(
        kind="tokens",
        dense=dense,
        absurd=Adds(dense, torch.tensor([60.0, 0.0, 0.0])),
        data=splits(inputs, targets, num_classes=CLASSES),
        loss=loss,
        metric=right_tokens,
    )


def several_labels() -> Task:
    """(B, 5) logits of labels, of which most are absent."""
    torch.manual_seed(0)
    inputs = torch.randn(EXAMPLES, 5)
    targets = (inputs > 0.8).float()

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(outputs, targets)

    dense = train(mlp(5, 5), inputs, targets, loss)
    return Task(
        kind="labels",
        dense=dense,
        absurd=Adds(dense, torch.full((5,), 60.0)),
        data=splits(inputs, targets, num_classes=5),
        loss=loss,
        metric=right_labels,
    )


def regression() -> Task:
    """(B, 2) numbers: a sum and a product."""
    torch.manual_seed(0)
    inputs = torch.randn(EXAMPLES, 6)
    targets = torch.stack([3 * inputs.sum(1), inputs[:, 0] * inputs[:, 1] - 20], 1)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.mse_loss(outputs, targets)

    dense = train(mlp(6, 2), inputs, targets, loss)
    return Task(
        kind="values",
        dense=dense,
        absurd=Adds(dense, torch.tensor(1000.0)),
        data=splits(inputs, targets, num_classes=1),
        loss=loss,
        metric=MSE,
    )


TASKS = {
    "segmentation": segmentation,
    "tokens": tokens,
    "labels": several_labels,
    "regression": regression,
}
