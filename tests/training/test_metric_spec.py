"""A metric is one number for each example, in its range; a mistake is said before it counts."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from tests.support.tasks import MSE, regression, squared_error
from ws_learner.config.recipe import Recipe
from ws_learner.core.device import ComputeDevice
from ws_learner.core.errors import UserError
from ws_learner.data.dataset_split import DatasetSplit
from ws_learner.report.metrics import MetricsLog
from ws_learner.training.evaluation import evaluate, perplexity, top_k_accuracy
from ws_learner.training.metric_spec import MetricSpec, as_metric
from ws_learner.training.outcome import metric_entries
from ws_learner.training.phase import TrainingPhase
from ws_learner.training.task_check import check_metric

PLAIN = ComputeDevice(device="cpu", bf16=False, channels_last=False)


def right(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(1) == targets).float()


def split_of(outputs: Tensor, targets: Tensor) -> DatasetSplit:
    """A split that an identity network answers with `outputs`."""
    return DatasetSplit(TensorDataset(outputs, targets))  # type: ignore[arg-type]


def measure(outputs: Tensor, targets: Tensor, metric: Any, *, batch_size: int = 250) -> float:
    split = split_of(outputs, targets)
    return evaluate(nn.Identity(), split, metric, compute=PLAIN, batch_size=batch_size)


@pytest.mark.parametrize(
    ("metric", "word"),
    [
        (lambda o, t: right(o, t).mean(), r"returns \(\) for 2 examples; .* leave out the mean"),
        (lambda o, t: right(o, t).mean()[None], r"returns \(1,\) for 2 examples"),
        (lambda o, t: float(right(o, t).mean()), "returns float for 2 examples"),
        (lambda o, t: (o > 0).float(), r"returns \(2, 2\) for 2 examples"),
        (lambda o, t: (o > 0).float().mean(0), r"returns \(2,\) for 3 examples"),  # per class
        (lambda o, t: right(o, t) * math.nan, "is NaN or infinite"),
        (lambda o, t: 5 * o[:, 0].abs() + 2, r"must lie in \[0, 1\]; give metric=MetricSpec"),
        (lambda o, t: -right(o, t) - 1, r"must lie in \[0, 1\]"),
    ],
)
def test_a_wrong_metric_is_told_on_three_examples(metric: Any, word: str) -> None:
    with pytest.raises(UserError, match=word):
        check_metric(metric, torch.randn(3, 2), torch.tensor([0, 1, 0]))


@pytest.mark.parametrize(
    "metric",
    [
        MetricSpec(lambda o, t: (o - t).square().mean(1), name="MSE", higher_is_better=False),
        lambda o, t: ((o > 0) == (t > 0)).float().mean(1),
    ],
)
def test_outputs_in_a_column_are_not_scored_against_every_target(metric: Any) -> None:
    outputs, targets = torch.randn(3, 1), torch.randn(16)
    with pytest.raises(UserError, match=r"outputs \(16, 1\) and targets \(16,\)"):
        check_metric(metric, outputs, targets)
    check_metric(metric, outputs, targets[:, None])


def test_a_batch_mean_is_refused_in_the_last_batch_too() -> None:
    outputs, targets = torch.randn(5, 2), torch.tensor([0, 1, 0, 1, 1])
    with pytest.raises(UserError, match="a score for each example"):
        measure(outputs, targets, lambda o, t: right(o, t).mean(), batch_size=1)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 250])
def test_every_example_counts_alike_whatever_the_batch(batch_size: int) -> None:
    outputs, targets = torch.randn(7, 4), torch.randn(7, 4)
    wanted = ((outputs - targets).double().numpy() ** 2).mean()
    found = measure(outputs, targets, MSE, batch_size=batch_size)
    assert found == pytest.approx(wanted, rel=1e-6)


def test_outputs_that_are_nan_are_no_wrong_answers() -> None:
    outputs = torch.zeros(4, 2)
    outputs[3, 1] = math.nan
    with pytest.raises(UserError, match="outputs are NaN for example 3 of the split"):
        measure(outputs, torch.zeros(4, dtype=torch.long), right)


def test_an_empty_split_is_said() -> None:
    with pytest.raises(UserError, match="holds no examples"):
        measure(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), right)


def test_a_metric_that_breaks_while_training_names_split_and_step(tmp_path: Path) -> None:
    task = regression()

    def breaks(outputs: Tensor, targets: Tensor) -> Tensor:
        return squared_error(outputs, targets) * math.inf

    phase = TrainingPhase(
        phase="dense",
        data=task.data,
        criterion=lambda outputs, targets, inputs: task.loss(outputs, targets),
        metric=MetricSpec(breaks, name="MSE", unit=""),
        recipe=Recipe(nb_epochs=1, batch_size=20, lrn_rate=1e-4),
        compute=PLAIN,
        seed=0,
        log=MetricsLog(tmp_path / "metrics.csv"),
        checkpoint=tmp_path / "dense.pt",
    )
    with pytest.raises(UserError, match=r"MSE: is NaN or infinite .* the select split at step 3"):
        phase.run(task.dense)


def test_one_hot_targets_are_their_class_numbers() -> None:
    outputs, targets = torch.randn(50, 4), torch.arange(50) % 4
    for hot in (functional.one_hot(targets, 4), functional.one_hot(targets, 4).float()):
        assert torch.equal(top_k_accuracy(outputs, hot), right(outputs, targets))


@pytest.mark.parametrize(
    ("targets", "word"),
    [
        (torch.tensor([[1, 1], [0, 1]]), "must be one-hot"),
        (torch.tensor([[0.5, 0.5], [1.0, 0.0]]), "must be one-hot"),
        (torch.tensor([0.0, 1.0]), "are no class numbers"),
        (torch.tensor([[0], [1]]), "no axis could be the classes'"),
    ],
)
def test_targets_that_are_no_classes_are_refused(targets: Tensor, word: str) -> None:
    with pytest.raises(UserError, match=word):
        top_k_accuracy(torch.randn(2, 2), targets)


def test_accuracy_of_positions_is_a_mean_over_those_that_count() -> None:
    outputs, targets = torch.randn(6, 4, 5), torch.randint(4, (6, 5))
    targets[0, 1] = targets[3, 0] = targets[3, 4] = -100
    kept, answers = (targets != -100).numpy(), outputs.argmax(1).numpy()
    hits = (answers == targets.numpy()) & kept
    wanted = hits.sum(1) / kept.sum(1)
    np.testing.assert_allclose(top_k_accuracy(outputs, targets).numpy(), wanted, rtol=1e-6)
    last = top_k_accuracy(outputs.movedim(1, -1), targets)  # (B, T, C)
    np.testing.assert_allclose(last.numpy(), wanted, rtol=1e-6)
    square = torch.randn(2, 4, 4)
    with pytest.raises(UserError, match="two axes"):
        top_k_accuracy(square, torch.zeros(2, 4, dtype=torch.long))
    assert top_k_accuracy(square, square.argmax(2), axis=2).tolist() == [1, 1]


def test_more_answers_than_classes_are_refused() -> None:
    with pytest.raises(UserError, match="k = 5, but there are 4 classes"):
        top_k_accuracy(torch.randn(2, 4), torch.tensor([0, 1]), k=5)


def test_a_perplexity_is_the_exponential_of_the_mean_log_loss() -> None:
    logits, targets = torch.randn(9, 6, 11), torch.randint(11, (9, 6))
    targets[2, 3:] = -100
    p = logits.double().softmax(-1).numpy()
    losses = [
        np.mean([-math.log(p[b, t, k]) for t, k in enumerate(row) if k != -100])
        for b, row in enumerate(targets.tolist())
    ]
    found = measure(logits, targets, perplexity(), batch_size=4)
    assert found == pytest.approx(math.exp(np.mean(losses)), rel=1e-5)
    entries = metric_entries(perplexity(), dense=found, sparse=2 * found)
    assert (entries["dense_perplexity"], entries["sparse_perplexity"]) == (found, 2 * found)
    assert not entries["higher_is_better"]
    assert "dense_accuracy" not in entries


def test_a_perplexity_beyond_all_numbers_is_said() -> None:
    logits = torch.zeros(2, 3, 4)
    logits[..., 0] = 1e4  # the targets are never 0
    with pytest.raises(UserError, match=r"perplexity: is inf on the split, .* 10000;"):
        measure(logits, torch.ones(2, 3, dtype=torch.long), perplexity())


def word_error_rate(outputs: Tensor, targets: Tensor) -> Tensor:
    return 1 - right(outputs, targets)


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (top_k_accuracy, "accuracy"),
        (partial(top_k_accuracy, k=5), "top-5 accuracy"),
        (partial(top_k_accuracy, axis=1), "accuracy"),
        (word_error_rate, "word error rate"),
        (lambda o, t: right(o, t), "score"),
        (MSE, "MSE"),
    ],
)
def test_a_plain_function_is_named_after_itself(metric: Callable[..., Tensor], name: str) -> None:
    assert as_metric(metric).name == name


def test_only_a_share_of_which_more_is_better_is_an_accuracy() -> None:
    assert as_metric(right).accuracy
    assert not MSE.accuracy
    assert not MetricSpec(right, name="error", unit="share", higher_is_better=False).accuracy
    assert metric_entries(right, dense=None, sparse=0.5) == {
        "metric": "right",
        "metric_unit": "share",
        "higher_is_better": True,
        "dense_metric": None,
        "dense_accuracy": None,
        "sparse_metric": 0.5,
        "sparse_accuracy": 0.5,
    }
    entries = metric_entries(MSE, dense=1.5, sparse=2.5)
    assert (entries["dense_metric"], entries["sparse_metric"]) == (1.5, 2.5)
    assert "sparse_accuracy" not in entries


@pytest.mark.parametrize(("function", "name", "word"), [(None, "M", "function"), (right, "", "''")])
def test_a_metric_needs_a_function_and_a_name(function: Any, name: str, word: str) -> None:
    with pytest.raises(UserError, match=word):
        MetricSpec(function, name=name)


def test_it_can_be_sent_to_other_processes() -> None:
    again = pickle.loads(pickle.dumps(MSE))
    assert again == MSE
    assert pickle.loads(pickle.dumps(perplexity())) == perplexity()
