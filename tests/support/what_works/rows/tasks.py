"""Outputs and targets for which `prune` finds loss and metric itself, or refuses to."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from tests.support.what_works.row import Area, Row
from ws_learner import prune

_COUNT = 100


class _Network(nn.Module):
    """Twelve numbers, or as many pixels or words, in; outputs of a shape out."""

    def __init__(self, *shape: int, last: nn.Module | None = None) -> None:
        super().__init__()
        self.shape, self.last = shape, last or nn.Identity()
        outputs = int(torch.tensor([*shape, 1]).prod())
        self.layers = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.last(self.layers(inputs).reshape(-1, *self.shape))
        return found


def _whole(*shape: int, high: int) -> Tensor:
    return torch.randint(0, high, (_COUNT, *shape), generator=torch.Generator().manual_seed(1))


def _numbers(*shape: int) -> Tensor:
    return 5 * torch.randn(_COUNT, *shape, generator=torch.Generator().manual_seed(2))


def _row(
    what: str,
    shape: tuple[int, ...],
    targets: Tensor,
    metric: str = "accuracy",
    *,
    last: nn.Module | None = None,
    refused: str | None = None,
) -> Row:
    def run(folder: Path) -> None:
        torch.manual_seed(0)
        inputs = torch.randn(_COUNT, 12)
        config = {"ws_prune_ratio_prtl": "uniform"}
        data = TensorDataset(inputs, targets)
        model = _Network(*shape, last=last)
        result = prune(model, data, 0.5, epochs=1, config=config, run_dir=folder / "run")
        assert result.summary["metric"] == metric
        assert result.summary["achieved_prune_ratio"] == 0.5
        assert result.summary["higher_is_better"] == (metric == "accuracy")

    return Row(area="outputs and losses", what=f"no loss given: {what}", run=run, refused=refused)


class _Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(12, 8), nn.Linear(8, 12)

    def forward(self, words: Tensor) -> Tensor:
        found: Tensor = self.head(self.words(words))
        return found


def _next_words(folder: Path) -> None:
    torch.manual_seed(0)
    words = torch.randint(0, 12, (_COUNT, 7))
    config = {"ws_prune_ratio_prtl": "uniform"}
    data = TensorDataset(words, words)
    result = prune(_Words(), data, 0.5, epochs=1, config=config, run_dir=folder / "run")
    # Nobody knows the next of twelve words drawn at random.
    assert result.summary["sparse_perplexity"] > 6


def _of_other_inputs(folder: Path) -> None:
    data = TensorDataset(torch.randn(_COUNT, 11), _whole(high=4))
    prune(_Network(4), data, 0.5, epochs=1, run_dir=folder / "run")


_AREA: Area = "outputs and losses"
ROWS = (
    Row(area=_AREA, what="no loss given: targets that are the inputs (GPT)", run=_next_words),
    Row(
        area=_AREA,
        what="a network that takes other inputs",
        run=_of_other_inputs,
        refused="the network fails on the first training examples, inputs of shape (32, 11)",
    ),
    _row("class numbers", (4,), _whole(high=4)),
    _row("class numbers of type int32 or uint8", (4,), _whole(high=4).to(torch.uint8)),
    _row("one-hot classes", (4,), nn.functional.one_hot(_whole(high=4), 4).float()),
    _row("a class for each pixel (B, H, W)", (4, 2, 3), _whole(2, 3, high=4)),
    _row("a class for each word (B, T)", (5, 4), _whole(5, high=4)),
    _row("several labels of 0 and 1", (3,), _whole(3, high=2).float()),
    _row("one logit of yes or no, targets (B,)", (1,), _whole(high=2)),
    _row("numbers, outputs (B, 1), targets (B,)", (1,), _numbers(), "mean absolute error"),
    _row("several numbers", (2, 2), _numbers(2, 2), "mean absolute error"),
    _row(
        "a softmax at the network's end",
        (4,),
        _whole(high=4),
        last=nn.Softmax(1),
        refused="`loss`: the outputs look like probabilities, as after a softmax, and the usual "
        "loss takes logits; leave the softmax out of the network, or give a `loss`",
    ),
    _row(
        "a sigmoid at the network's end",
        (1,),
        _whole(high=2),
        last=nn.Sigmoid(),
        refused="`loss`: the outputs look like probabilities, as after a sigmoid, and the usual "
        "loss takes logits; leave the sigmoid out of the network, or give a `loss`",
    ),
    _row(
        "class numbers from 1",
        (4,),
        _whole(high=4) + 1,
        refused="a target is 4, but the network has 4 classes, 0 to 3; renumber the targets",
    ),
    _row(
        "numbers between 0 and 1, which may be shares or values",
        (2,),
        _numbers(2).sigmoid(),
        refused="which does not say what the outputs mean; give `outputs`, one of classes, tokens, "
        "labels, values, embeddings",
    ),
)
