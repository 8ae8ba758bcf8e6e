"""The reward sees the task: what a network answers decides it, whatever its outputs mean."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax
from torch import Tensor, nn
from torch.nn import functional

from tests.support.rollout_parts import counts, small_config
from tests.support.tasks import MSE, TASKS, Task, regression, splits
from ws_learner.core.errors import UserError
from ws_learner.pruning.layers.table import layer_table
from ws_learner.search.rollout.divergence import divergences, spread_of
from ws_learner.search.rollout.evaluator import RolloutEvaluator
from ws_learner.search.rollout.scoring import Scoring


def scoring(task: Task, **changes: Any) -> Scoring:
    parts: dict[str, Any] = {"metric": task.metric, "outputs": None, "loss": task.loss}
    parts |= {"num_classes": task.data.num_classes} | changes
    return Scoring(task.dense, list(task.data.search.batches(25)), **parts)


def mildly_pruned(network: nn.Module) -> nn.Module:
    """A quarter of the weights, the smallest ones, set to 0."""
    pruned = copy.deepcopy(network)
    for weight in pruned.parameters():
        if weight.dim() > 1:
            with torch.no_grad():
                weight[weight.abs() < weight.abs().quantile(0.25)] = 0
    return pruned


@pytest.mark.parametrize("name", TASKS)
def test_an_absurd_network_is_worth_nothing_and_a_mildly_pruned_one_a_lot(name: str) -> None:
    task = TASKS[name]()
    marks = scoring(task)
    assert marks.outputs == task.kind
    dense, mild, absurd = (
        math.exp(-marks.mark(network)[1])
        for network in (task.dense, mildly_pruned(task.dense), task.absurd)
    )
    assert dense == 1
    assert 0.5 < mild < 1
    assert 0 < absurd < 0.01


@pytest.mark.parametrize("name", TASKS)
def test_an_evaluator_ranks_by_how_much_is_pruned(name: str) -> None:
    task = TASKS[name]()
    inputs, _ = next(task.data.train.batches(2))
    evaluator = RolloutEvaluator(
        task.dense,
        task.data,
        layers=layer_table(task.dense, inputs),
        loss=task.loss,
        metric=task.metric,
        config=small_config(score_power=1.0, nb_smpls_bn=0),
        seed=0,
        cache_dir=None,
        device="cpu",
    )
    assert evaluator.outputs == task.kind
    scores = [evaluator.score(counts(evaluator.layers, ratio)) for ratio in (0.0, 0.3, 0.97)]
    assert all(not score.failed for score in scores)
    first, middle, last = (score.reward for score in scores)
    assert 1 == first > middle > last > 0


def test_classes_diverge_as_they_always_did_to_the_last_bit() -> None:
    ours, dense = torch.randn(64, 10) * 3, torch.randn(64, 10) * 3
    a, b = functional.log_softmax(ours, -1), functional.log_softmax(dense, -1)
    former = (b.exp() * (b - a)).sum(-1).reshape(64, -1).mean(1).clamp_min(0)
    assert torch.equal(divergences(ours, dense, kind="classes"), former)


def kl(ours: Tensor, dense: Tensor, axis: int) -> Any:
    p, q = (log_softmax(z.double().numpy(), axis) for z in (dense, ours))
    return (np.exp(p) * (p - q)).sum(axis)


@pytest.mark.parametrize(("kind", "axis"), [("classes", 1), ("tokens", -1)])
def test_positions_that_do_not_count_are_left_out_of_the_mean(kind: Any, axis: int) -> None:
    ours, dense = torch.randn(2, 4, 5, 4), torch.randn(2, 4, 5, 4)
    each = kl(ours, dense, axis).reshape(2, -1)
    found = divergences(ours, dense, kind=kind)
    np.testing.assert_allclose(found.numpy(), each.mean(1), rtol=1e-5)
    counted = torch.rand(2, *each.shape[1:]) < 0.5
    shaped = counted.reshape(2, 5, 4) if axis == 1 else counted.reshape(2, 4, 5)
    found = divergences(ours, dense, kind=kind, counted=shaped)
    wanted = [row[kept].mean() for row, kept in zip(each, counted.numpy(), strict=True)]
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5)


@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 5)])
def test_labels_diverge_by_the_sum_of_their_bernoulli_divergences(shape: tuple[int, ...]) -> None:
    ours, dense = torch.randn(shape) * 2, torch.randn(shape) * 2
    p, q = (expit(z.double().numpy()) for z in (dense, ours))
    each = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    found = divergences(ours, dense, kind="labels")
    np.testing.assert_allclose(found.numpy(), each.reshape(6, -1).sum(1), rtol=1e-4)


def test_values_diverge_by_one_less_r_squared() -> None:
    dense = torch.randn(50, 3) * torch.tensor([1.0, 10.0, 0.1]) + torch.tensor([0.0, 5.0, -9.0])
    ours = dense + torch.randn(50, 3)
    found = divergences(ours, dense, kind="values", spread=spread_of([dense], kind="values"))
    y, f = dense.double().numpy(), ours.double().numpy()
    r2 = 1 - ((f - y) ** 2).sum() / ((y - y.mean(0)) ** 2).sum()
    assert float(found.mean()) == pytest.approx(1 - r2, rel=1e-4)


def test_embeddings_are_compared_by_direction() -> None:
    dense = torch.randn(40, 8) + 3  # a narrow cone, where the cosine alone is always near 1
    spread = spread_of([dense[:20], dense[20:]], kind="embeddings")
    longer = divergences(dense * 5, dense, kind="embeddings", spread=spread)
    assert float(longer.max()) < 1e-6
    units = functional.normalize(dense, dim=1)
    collapsed = units.mean(0).expand(40, 8)
    found = divergences(collapsed, dense, kind="embeddings", spread=spread)
    assert float(found.mean()) == pytest.approx(1, abs=0.05)


def test_what_cannot_be_compared_is_refused_unless_only_the_metric_counts() -> None:
    task = regression()
    inputs = torch.randn(30, 6)
    data = splits(inputs, torch.rand(30, 2), num_classes=1)  # shares, or numbers in [0, 1]?
    unclear = Task(**vars(task) | {"data": data})
    with pytest.raises(UserError, match=r"`outputs`: .* \(B, 2\) .* give `outputs`, one of"):
        scoring(unclear)
    assert scoring(unclear, outputs="values").outputs == "values"
    marks = scoring(unclear, compares=False)
    assert marks.outputs is None
    assert marks.mark(task.dense)[1] is None


def test_a_dense_network_with_one_answer_has_nothing_to_compare() -> None:
    task = regression()
    task.dense[2].weight.data.zero_()  # type: ignore[index,operator,union-attr]
    with pytest.raises(UserError, match="gives all 60 scored examples the same outputs"):
        scoring(task)


@pytest.mark.parametrize("name", ["lower", "higher"])
def test_the_metric_as_a_reward_falls_with_the_loss(name: str) -> None:
    task, sign = regression(), {"lower": 1.0, "higher": -1.0}[name]

    def signed(outputs: Tensor, targets: Tensor) -> Tensor:
        return sign * MSE(outputs, targets)

    spec = type(MSE)(signed, name="M", unit="", higher_is_better=name == "higher")
    marks = scoring(task, metric=spec)
    networks = (task.dense, mildly_pruned(task.dense), task.absurd)
    errors = [marks.mark(network)[0] for network in networks]
    rewards = [marks.quality(error) for error in errors]
    assert np.argsort([sign * error for error in errors]).tolist() == [0, 1, 2]
    assert 0.5 == rewards[0] > rewards[1] > rewards[2] > 0
    assert marks.quality(errors[0] - sign * abs(errors[0]) / 2) > 0.5


def test_an_error_rate_is_rewarded_by_what_is_right() -> None:
    task = TASKS["labels"]()

    def wrong(outputs: Tensor, targets: Tensor) -> Tensor:
        return 1 - task.metric(outputs, targets)

    rate = type(MSE)(wrong, name="error", unit="share", higher_is_better=False)
    right, wrong_ = scoring(task), scoring(task, metric=rate)
    for network in (task.dense, task.absurd):
        share, error = right.mark(network)[0], wrong_.mark(network)[0]
        assert right.quality(share) == share == pytest.approx(1 - error)
        assert wrong_.quality(error) == pytest.approx(share)
