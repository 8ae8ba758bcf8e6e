"""Loss and metric told from outputs and targets, against PyTorch's own, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from ws_learner import UserError, as_splits, top_k_accuracy
from ws_learner.training import Task, as_metric, check_task, usual_task

COUNT, CLASSES = 80, 5
DRAW = torch.Generator().manual_seed(0)
INPUTS = torch.randn(COUNT, 6, generator=DRAW)


class Shaped(nn.Module):
    """A linear network whose outputs have a shape."""

    def __init__(self, *shape: int, last: nn.Module | None = None) -> None:
        super().__init__()
        self.linear = nn.Linear(6, int(torch.tensor([*shape, 1]).prod()))
        self.shape, self.last = shape, last or nn.Identity()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(self.linear(inputs).reshape(-1, *self.shape))


def task_of(model: nn.Module, targets: Tensor, **given: Any) -> Task:
    return usual_task(model, as_splits(TensorDataset(INPUTS, targets)), **given)


def whole(*shape: int, high: int = CLASSES) -> Tensor:
    return torch.randint(0, high, (COUNT, *shape), generator=torch.Generator().manual_seed(1))


NUMBERS = 3 * torch.randn(COUNT, generator=torch.Generator().manual_seed(2))

CASES: list[Any] = [
    # outputs, targets, kind, loss and scores of (outputs, targets) by another way
    (
        (CLASSES,),
        whole(),
        "classes",
        lambda o, t: -o.log_softmax(1)[torch.arange(len(t)), t].mean(),
        lambda o, t: (o.argmax(1) == t).double(),
    ),
    (
        (CLASSES,),
        whole().int(),
        "classes",
        lambda o, t: -o.log_softmax(1)[torch.arange(len(t)), t.long()].mean(),
        lambda o, t: (o.argmax(1) == t).double(),
    ),
    (
        (CLASSES,),
        functional.one_hot(whole(), CLASSES),
        "classes",
        lambda o, t: -(o.log_softmax(1) * t).sum(1).mean(),
        lambda o, t: (o.argmax(1) == t.argmax(1)).double(),
    ),
    (
        (CLASSES, 2, 3),
        whole(2, 3),
        "classes",
        lambda o, t: -o.log_softmax(1).gather(1, t[:, None]).mean(),
        lambda o, t: (o.argmax(1) == t).double().mean((1, 2)),
    ),
    (
        (4, CLASSES),
        whole(4),
        "tokens",
        lambda o, t: -o.log_softmax(2).gather(2, t[..., None]).mean(),
        lambda o, t: (o.argmax(2) == t).double().mean(1),
    ),
    (
        (),
        whole(high=2),
        "labels",
        lambda o, t: -(o.sigmoid().log() * t + (-o).sigmoid().log() * (1 - t)).mean(),
        lambda o, t: ((o > 0) == (t == 1)).double(),
    ),
    (
        (1,),
        whole(high=2).float(),
        "labels",
        lambda o, t: -(o[:, 0].sigmoid().log() * t + (-o[:, 0]).sigmoid().log() * (1 - t)).mean(),
        lambda o, t: ((o[:, 0] > 0) == (t == 1)).double(),
    ),
    (
        (3,),
        whole(3, high=2),
        "labels",
        lambda o, t: -(o.sigmoid().log() * t + (-o).sigmoid().log() * (1 - t)).mean(),
        lambda o, t: ((o > 0) == (t == 1)).double().mean(1),
    ),
    (
        (1,),
        NUMBERS,
        "values",
        lambda o, t: (o[:, 0] - t).square().mean(),
        lambda o, t: (o[:, 0] - t).abs(),
    ),
    (
        (2, 2),
        NUMBERS.reshape(COUNT, 1, 1).expand(COUNT, 2, 2),
        "values",
        lambda o, t: (o - t).square().mean(),
        lambda o, t: (o - t).abs().mean((1, 2)),
    ),
]


@pytest.mark.parametrize(("shape", "targets", "kind", "loss", "scores"), CASES)
def test_loss_and_metric_are_those_of_the_kind(
    shape: Any, targets: Tensor, kind: str, loss: Any, scores: Any
) -> None:
    torch.manual_seed(0)
    model = Shaped(*shape)
    task = task_of(model, targets)
    assert task.outputs == kind
    answers = model(INPUTS).detach()
    torch.testing.assert_close(task.loss(answers, targets), loss(answers, targets))
    metric = as_metric(task.metric)
    torch.testing.assert_close(
        metric.scores(answers, targets), scores(answers, targets).double(), check_dtype=False
    )
    assert metric.higher_is_better == (kind != "values")


def test_targets_of_minus_100_do_not_count() -> None:
    targets = whole(4)
    targets[:, 0] = -100
    model = Shaped(4, CLASSES)
    task = task_of(model, targets)
    answers = model(INPUTS).detach()
    inner = -answers[:, 1:].log_softmax(2).gather(2, targets[:, 1:, None]).mean()
    torch.testing.assert_close(task.loss(answers, targets), inner)


def test_what_is_given_stays_and_what_was_chosen_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = Shaped(CLASSES)
    own = nn.CrossEntropyLoss(label_smoothing=0.1)
    task = task_of(model, whole(), loss=own)
    assert task.loss is own
    said = capsys.readouterr().err
    assert "`metric`: accuracy, since the outputs are classes" in said
    assert "`loss`:" not in said
    task = task_of(model, whole(), metric=lambda o, t: (o.argmax(1) == t).double())
    assert "`loss`: cross entropy, since the outputs are classes" in capsys.readouterr().err
    assert task.data.num_classes == CLASSES


@pytest.mark.parametrize(
    ("model", "targets", "line"),
    [
        (Shaped(CLASSES, last=nn.Softmax(1)), whole(), "look like probabilities, as after a soft"),
        (Shaped(last=nn.Sigmoid()), whole(high=2), "look like probabilities, as after a sigmoid"),
        (Shaped(CLASSES), whole() + 1, "a target is 5, but the network has 5 classes, 0 to 4"),
        (Shaped(CLASSES), whole() - 1, "a target is -1, but the network has 5 classes, 0 to 4"),
        (Shaped(2), torch.rand(COUNT, 2), "does not say what the outputs mean; give `outputs`"),
        (Shaped(3, 4), NUMBERS, "does not say what the outputs mean; give `outputs`"),
        (Shaped(CLASSES), torch.empty(COUNT, 0), "the examples have no targets to train with"),
    ],
)
def test_what_cannot_be_told_is_refused(model: nn.Module, targets: Tensor, line: str) -> None:
    with pytest.raises(UserError) as caught:
        task_of(model, targets)
    assert line in str(caught.value)


def test_logarithms_of_a_softmax_are_logits() -> None:
    model = Shaped(CLASSES, last=nn.LogSoftmax(1))
    task = task_of(model, whole())
    answers = model(INPUTS).detach()
    expected = functional.nll_loss(answers, whole())
    torch.testing.assert_close(task.loss(answers, whole()), expected)


def test_embeddings_have_no_usual_loss() -> None:
    with pytest.raises(UserError, match="embeddings: have no usual loss"):
        task_of(Shaped(CLASSES), whole(), outputs="embeddings")


class Words(nn.Module):
    """Logits (B, T, 6) of each word and its place."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(6, 6)

    def forward(self, words: Tensor) -> Tensor:
        found: Tensor = self.words(words)
        return found


def test_targets_that_are_the_inputs_are_of_the_next_token(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = whole(9, high=6)
    prompted = words.clone()
    prompted[:, :3] = -100  # a prompt that is not learned
    model = Words()
    task = usual_task(model, as_splits(TensorDataset(words, prompted)))
    assert "`loss`: cross entropy of each next token, since the targets are" in (
        capsys.readouterr().err
    )
    answers = model(words).detach()
    # Logits at place t are for the word at t + 1; of 9 words the last 6 count.
    chosen = answers[:, 2:8].log_softmax(2).gather(2, words[:, 3:, None])
    torch.testing.assert_close(task.loss(answers, prompted), -chosen.mean())
    metric = as_metric(task.metric)
    scores = metric.scores(answers, prompted)
    torch.testing.assert_close(scores, -chosen.mean((1, 2)), check_dtype=False)
    assert (metric.name, metric.higher_is_better) == ("perplexity", False)
    other = usual_task(model, as_splits(TensorDataset(words, whole(9, high=6).flip(0))))
    assert as_metric(other.metric).name == "accuracy"


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(7, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.linear(inputs)
        return found


def test_a_network_that_fails_is_said_with_the_shapes() -> None:
    with pytest.raises(UserError, match=r"fails on the first .* of shape \(32, 6\): RuntimeError"):
        task_of(Broken(), whole(high=2))


class FixedType(nn.Module):
    """Casts to bfloat16 whatever the type of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 2, dtype=torch.bfloat16)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.linear(inputs.to(torch.bfloat16))
        return found


def test_a_network_that_runs_in_half_precision_only_is_told_from_one_that_fails() -> None:
    data = as_splits(TensorDataset(INPUTS, whole(high=2)))
    parts: dict[str, Any] = {"loss": functional.cross_entropy, "metric": top_k_accuracy}
    with pytest.raises(UserError, match="bfloat16, and fails in float32"):
        check_task(FixedType(), data, outputs=None, compares=False, **parts)
