"""What outputs mean is told from loss, targets and shapes, or asked for."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.support.tasks import TASKS, splits
from ws_learner.core.errors import UserError
from ws_learner.training.evaluation import top_k_accuracy
from ws_learner.training.metric_spec import MetricSpec
from ws_learner.training.outputs import (
    class_axis,
    counted_positions,
    infer_output_kind,
    resolve_output_kind,
)
from ws_learner.training.task_check import check_task


def own_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets)


def whole(*shape: int, below: int = 2) -> Tensor:
    return torch.randint(below, shape)


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape) * 5


ONE_HOT = functional.one_hot(torch.arange(64) % 4, 4)

KINDS: dict[str, tuple[str | None, Tensor, Tensor, int]] = {
    # kind, outputs of 3 examples, targets of 64, number of classes
    "classification": ("classes", numbers(3, 4), whole(64, below=4), 4),
    "two classes": ("classes", numbers(3, 2), whole(64), 2),
    "one-hot": ("classes", numbers(3, 4), ONE_HOT, 4),
    "one-hot floats": ("classes", numbers(3, 4), ONE_HOT.float(), 4),
    "soft classes": ("classes", numbers(3, 4), torch.rand(64, 4).softmax(1), 4),
    "segmentation": ("classes", numbers(3, 4, 6, 7), whole(64, 6, 7, below=4), 4),
    "spans of an answer": ("classes", numbers(3, 9, 2), whole(64, 2, below=9), 2),
    "token classes": ("tokens", numbers(3, 6, 4), whole(64, 6, below=4), 4),
    "next tokens": ("tokens", numbers(3, 6, 90), whole(64, 6, below=90), 90),
    "channels last": ("tokens", numbers(3, 6, 7, 4), whole(64, 6, 7, below=4), 4),
    "one logit": ("labels", numbers(3), whole(64), 2),
    "one logit, a column": ("labels", numbers(3, 1), whole(64), 2),
    "one logit, float targets": ("labels", numbers(3), whole(64).float(), 2),
    "several labels": ("labels", numbers(3, 5), whole(64, 5).float(), 5),
    "several labels, bool": ("labels", numbers(3, 5), whole(64, 5).bool(), 5),
    "binary segmentation": ("labels", numbers(3, 1, 6, 7), whole(64, 1, 6, 7).float(), 2),
    "regression": ("values", numbers(3), numbers(64), 1),
    "regression, a column": ("values", numbers(3, 1), numbers(64), 1),
    "several numbers": ("values", numbers(3, 4), numbers(64, 4), 1),
    "images": ("values", numbers(3, 1, 6, 6), numbers(64, 1, 6, 6), 1),
    "counts": ("values", numbers(3), whole(64, below=9), 1),
    # not known
    "another number of classes": (None, numbers(3, 128), whole(64, below=4), 4),
    "square": (None, numbers(3, 6, 6), whole(64, 6, below=6), 6),
    "numbers in [0, 1]": (None, numbers(3, 4), torch.rand(64, 4), 1),
    "labels with ignored ones": (None, numbers(3, 4), whole(64, 4) - 1, 4),
    "boxes": (None, numbers(3, 8, 20), numbers(64, 5, 5), 4),
    "yes or no of many classes": (None, numbers(3), whole(64), 10),
}


@pytest.mark.parametrize("name", KINDS)
def test_shapes_and_targets_tell_the_kind_or_it_is_asked_for(name: str) -> None:
    kind, outputs, targets, classes = KINDS[name]
    if kind is None:
        with pytest.raises(UserError, match="give `outputs`, one of classes, tokens, labels"):
            infer_output_kind(outputs, targets, num_classes=classes, loss=own_loss)
    else:
        assert infer_output_kind(outputs, targets, num_classes=classes, loss=own_loss) == kind


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        (nn.CrossEntropyLoss(label_smoothing=0.1), "classes"),
        (functional.cross_entropy, "classes"),
        (nn.BCEWithLogitsLoss(), "labels"),
        (nn.MSELoss(), "values"),
        (functional.l1_loss, "values"),
    ],
)
def test_a_loss_of_pytorch_tells_the_kind_before_the_targets_do(loss: Any, kind: str) -> None:
    zero_or_one = whole(64, 4).float()
    assert infer_output_kind(numbers(3, 4), zero_or_one, num_classes=9, loss=loss) == kind


def test_cross_entropy_of_one_class_is_a_mistake() -> None:
    with pytest.raises(UserError, match=r"one class only; use nn\.BCEWithLogitsLoss"):
        infer_output_kind(numbers(3, 1), whole(64), num_classes=2, loss=functional.cross_entropy)


@pytest.mark.parametrize(
    ("given", "outputs", "word"),
    [
        ("class", numbers(3, 4), "did you mean classes"),
        ("classes", numbers(3), "no axis of several classes"),
        ("classes", numbers(3, 1), "one logit of yes or no is `labels`"),
        ("embeddings", numbers(3), "no axis"),
    ],
)
def test_a_given_kind_must_exist_and_fit(given: str, outputs: Tensor, word: str) -> None:
    with pytest.raises(UserError, match=word):
        resolve_output_kind(given, outputs, whole(3), num_classes=2)


def test_a_given_kind_goes_before_what_would_be_inferred() -> None:
    found = resolve_output_kind("embeddings", numbers(3, 4), whole(64, below=4), num_classes=4)
    assert found == "embeddings"


@pytest.mark.parametrize(
    ("outputs", "targets", "axis"),
    [((2, 5), (2,), 1), ((2, 5, 4, 4), (2, 4, 4), 1), ((2, 4, 5), (2, 4), 2)],
)
def test_the_axis_of_the_classes_is_the_one_that_targets_lack(
    outputs: tuple[int, ...], targets: tuple[int, ...], axis: int
) -> None:
    assert class_axis(torch.empty(outputs), torch.empty(targets)) == axis


def test_ignored_targets_and_padding_do_not_count() -> None:
    targets = torch.tensor([[1, -100, 2], [0, 1, -100]])
    inputs = torch.tensor([[7, 8, 9], [7, 0, 0]])
    found = counted_positions(torch.randn(2, 3, 4), targets, inputs, kind="tokens", pad_id=0)
    assert found is not None
    assert found.tolist() == [[True, False, True], [True, False, False]]
    images = torch.randn(2, 1, 3)
    found = counted_positions(torch.randn(2, 4, 3), targets, images, kind="classes", pad_id=None)
    assert found is not None
    assert found.tolist() == [[True, False, True], [True, True, False]]
    assert (
        counted_positions(
            torch.randn(2, 4), torch.tensor([1, 2]), images, kind="classes", pad_id=None
        )
        is None
    )


@pytest.mark.parametrize("name", TASKS)
def test_the_check_before_work_finds_the_kind_and_says_an_unusual_one(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    task = TASKS[name]()
    parts: dict[str, Any] = {"loss": task.loss, "metric": task.metric, "outputs": None}
    assert check_task(task.dense, task.data, compares=True, **parts) == task.kind
    said = capsys.readouterr().err
    assert (f"taken as {task.kind}; give `outputs`" in said) == (task.kind != "classes")
    assert check_task(task.dense, task.data, compares=False, **parts) is None


def test_the_metric_tells_classes_of_which_the_data_have_only_some() -> None:
    """As where a network of 1000 classes is pruned on a folder of ten."""
    inputs = torch.randn(50, 6)
    data = splits(inputs, torch.randint(4, (50,)), num_classes=4)
    network = nn.Linear(6, 1000)
    parts: dict[str, Any] = {"loss": own_loss, "outputs": None, "compares": True}
    assert check_task(network, data, metric=top_k_accuracy, **parts) == "classes"
    five = partial(top_k_accuracy, k=5)
    assert check_task(network, data, metric=five, **parts) == "classes"
    with pytest.raises(UserError, match=r"gives \(B, 1000\) .* of 4 classes"):
        check_task(network, data, metric=lambda o, t: (o.argmax(1) == t).float(), **parts)


def test_a_network_that_returns_no_tensor_is_said() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"start": x, "end": x}

    task = TASKS["regression"]()
    parts: dict[str, Any] = {"loss": task.loss, "metric": task.metric, "outputs": None}
    line = r"returns dict \(start .*, end .*\) for 3 examples, which does not say"
    with pytest.raises(UserError, match=line):
        check_task(Two(), task.data, compares=False, **parts)


def test_the_check_leaves_the_network_as_it_was() -> None:
    task = TASKS["regression"]()
    model = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.5), task.dense)
    model.train()
    model[0].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parts: dict[str, Any] = {"loss": task.loss, "metric": task.metric, "outputs": None}
    check_task(model, task.data, compares=True, **parts)
    assert [module.training for module in model] == [False, True, True]
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_loss_of_every_output_and_every_target_is_refused() -> None:
    inputs, targets = torch.randn(50, 6), torch.randn(50)
    network = nn.Linear(6, 1)
    data, column = (splits(inputs, t, num_classes=1) for t in (targets, targets[:, None]))

    def mean(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().mean()

    def aligned(outputs: Tensor, targets: Tensor) -> Tensor:
        return mean(outputs[:, 0], targets)

    own = MetricSpec(
        lambda o, t: (o.flatten() - t.flatten()).square(), name="MSE", higher_is_better=False
    )
    parts: dict[str, Any] = {"metric": own, "outputs": None, "compares": False}
    with pytest.raises(UserError, match="`loss`: compares each of the outputs"):
        check_task(network, data, loss=mean, **parts)
    check_task(network, data, loss=aligned, **parts)
    check_task(network, column, loss=mean, **parts)
    with pytest.raises(UserError, match="`loss`: compares each of the outputs"):
        check_task(nn.Sequential(network, nn.Flatten(0)), column, loss=mean, **parts)


@pytest.mark.parametrize("batch_first", [True, False])
def test_an_attention_from_example_to_example_is_said(
    batch_first: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first)
    network = nn.Sequential(layer, nn.Flatten(), nn.Linear(40, 3))
    data = splits(torch.randn(60, 5, 8), torch.randint(3, (60,)), num_classes=3)
    parts: dict[str, Any] = {"loss": own_loss, "outputs": None, "compares": False}
    check_task(network, data, metric=top_k_accuracy, **parts)
    said = capsys.readouterr().err
    assert ("outputs for an example change with the other examples" in said) != batch_first
